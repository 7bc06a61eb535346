-- Wrong PINs at a guest door that is always open: no more than so many an hour, also across restarts.
CREATE TABLE guest_guess (
  at_ms INTEGER NOT NULL
) STRICT;

-- Where guests are uploading to, and how the tags of their parts begin: what a kill leaves behind is removed.
CREATE TABLE guest_offer (
  dir TEXT NOT NULL,
  tag TEXT NOT NULL
) STRICT;
