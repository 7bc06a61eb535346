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
  id          TEXT NOT NULL,             -- chosen by the sender
  peer        BLOB NOT NULL,
  direction   TEXT NOT NULL CHECK (direction IN ('in', 'out')),
  state       TEXT NOT NULL,             -- see kith_proto::control::types::TransferState
  title       TEXT NOT NULL,
  text        TEXT,
  entries     INTEGER NOT NULL,
  bytes       INTEGER,                   -- NULL while input of unknown length is still coming
  dir         TEXT,                      -- in: where it is received to
  on_conflict TEXT,                      -- in: what to do when a name exists
  reason      TEXT,                      -- JSON, see kith_proto::control::types::Failure
  told        INTEGER NOT NULL DEFAULT 1,-- 0 while the peer does not know yet that it was called off
  created_ms  INTEGER NOT NULL,
  updated_ms  INTEGER NOT NULL,
  expires_ms  INTEGER NOT NULL,
  PRIMARY KEY (peer, direction, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX transfer_id ON transfer (id);

-- What is in a transfer.
CREATE TABLE entry (
  peer       BLOB NOT NULL,
  direction  TEXT NOT NULL,
  transfer   TEXT NOT NULL,
  idx        INTEGER NOT NULL,           -- position in the manifest
  path       TEXT NOT NULL,              -- WirePath within the offer
  kind       TEXT NOT NULL CHECK (kind IN ('file', 'dir', 'symlink')),
  size       INTEGER,                    -- files; NULL while unknown
  mtime_ns   INTEGER NOT NULL,
  executable INTEGER NOT NULL,
  target     TEXT,                       -- symlinks
  source     BLOB,                       -- out: the path on this device
  inode      INTEGER,                    -- out: what was there when it was offered
  settled    TEXT,                       -- NULL while open; 'ok', 'same', 'kept', or the word of a problem
  placed     TEXT,                       -- in: the name it got
  PRIMARY KEY (peer, direction, transfer, idx),
  FOREIGN KEY (peer, direction, transfer) REFERENCES transfer (peer, direction, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Directories that a transfer made, so that calling it off removes them again while they are empty.
CREATE TABLE made_dir (
  peer     BLOB NOT NULL,
  transfer TEXT NOT NULL,
  path     TEXT NOT NULL,
  PRIMARY KEY (peer, transfer, path)
) STRICT, WITHOUT ROWID;
