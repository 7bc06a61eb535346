-- Wrong PINs at a guest door that is always open: no more than so many an hour, also across restarts.
CREATE TABLE guest_guess (
  at_ms INTEGER NOT NULL
) STRICT;
