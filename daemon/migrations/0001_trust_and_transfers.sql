-- Devices that are or were trusted. A revoked one stays as a tombstone.
CREATE TABLE device (
  public_key   BLOB PRIMARY KEY CHECK (length(public_key) = 32),
  name         TEXT NOT NULL,            -- as the device calls itself
  our_name     TEXT,                     -- as this device calls it
  relation     TEXT NOT NULL CHECK (relation IN ('own', 'guest')),
  policy       TEXT NOT NULL,            -- JSON, see kith_proto::control::types::Policy
  addresses    TEXT NOT NULL,            -- JSON array of "ip:port" where it proved who it is, newest first
  paired_ms    INTEGER NOT NULL,
  last_seen_ms INTEGER,                  -- when it last proved who it is
  revoked_ms   INTEGER                   -- NULL while it is trusted
) STRICT, WITHOUT ROWID;

-- One row that counts changes of trust. A file outside the database remembers the count, so that a database
-- restored from a backup, which may trust a revoked device again, is noticed.
CREATE TABLE trust_generation (
  one        INTEGER PRIMARY KEY CHECK (one = 1),
  generation INTEGER NOT NULL
) STRICT;
INSERT INTO trust_generation VALUES (1, 0);

-- When PINs were shown with nobody at the keyboard: no more than so many an hour, also across restarts.
CREATE TABLE pin_window (
  opened_ms INTEGER NOT NULL
) STRICT;

-- Transfers in both directions, until they are forgotten.
CREATE TABLE transfer (
  number      INTEGER PRIMARY KEY,
  peer        BLOB NOT NULL CHECK (length(peer) = 32),
  direction   TEXT NOT NULL CHECK (direction IN ('in', 'out')),
  id          TEXT NOT NULL,              -- a UUID that the sender chose
  state       TEXT NOT NULL,              -- JSON string, see kith_proto::control::types::TransferState
  title       TEXT NOT NULL,
  text        TEXT,                       -- a text that is sent as itself
  entries     INTEGER NOT NULL,
  bytes       INTEGER,                    -- NULL while input of unknown length is still coming
  dir         TEXT,                       -- in: where it is received to
  on_conflict TEXT NOT NULL,              -- JSON string, in: what to do when a name exists
  caller      TEXT,                       -- JSON, out: user and groups with whose rights files are read; NULL: our own
  reason      TEXT,                       -- JSON, see kith_proto::control::types::Failure
  skipped     INTEGER NOT NULL,           -- out: what could not be offered, beside the entries
  skipped_why TEXT NOT NULL,              -- JSON, the first of them: [{path, reason}]
  told        INTEGER NOT NULL,           -- out: 0 while the peer does not know yet that it was called off
  created_ms  INTEGER NOT NULL,
  updated_ms  INTEGER NOT NULL,
  expires_ms  INTEGER NOT NULL,
  UNIQUE (peer, direction, id)
) STRICT;

-- What is in a transfer.
CREATE TABLE entry (
  transfer   INTEGER NOT NULL REFERENCES transfer (number) ON DELETE CASCADE,
  idx        INTEGER NOT NULL,            -- place in the manifest
  path       TEXT NOT NULL,               -- WirePath within the offer
  kind       TEXT NOT NULL CHECK (kind IN ('file', 'dir', 'symlink')),
  size       INTEGER,                     -- files; NULL while unknown
  mtime_ns   INTEGER NOT NULL,
  mode       INTEGER NOT NULL,
  target     TEXT,                        -- symlinks
  source     BLOB,                        -- out: the path on this device
  inode      INTEGER,                     -- out: what was there when it was offered
  settled    TEXT,                        -- NULL while open; '' when in place; else the word of a problem
  placed     TEXT,                        -- in: the path it got
  PRIMARY KEY (transfer, idx),
  UNIQUE (transfer, path)
) STRICT, WITHOUT ROWID;

-- Directories that a transfer made, so that calling it off removes them again while they are empty.
CREATE TABLE made_dir (
  transfer INTEGER NOT NULL REFERENCES transfer (number) ON DELETE CASCADE,
  path     TEXT NOT NULL,
  PRIMARY KEY (transfer, path)
) STRICT, WITHOUT ROWID;
