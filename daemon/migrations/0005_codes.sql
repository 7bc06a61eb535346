-- Sharing codes that this device issued. The code itself is not here: what is, opens nothing without it.
CREATE TABLE code (
  number      INTEGER PRIMARY KEY,
  id          TEXT NOT NULL UNIQUE,      -- 8 hex digits
  lookup      BLOB NOT NULL UNIQUE CHECK (length(lookup) = 32), -- under which its payload waits
  proof       BLOB NOT NULL UNIQUE CHECK (length(proof) = 32),  -- Ed25519: who signs with its secret half has the code
  owner_token TEXT NOT NULL,             -- by which the payload is withdrawn from stores
  blob        BLOB NOT NULL,             -- the sealed payload, to be published again and again
  label       TEXT NOT NULL,
  kind        TEXT NOT NULL,
  resource    BLOB NOT NULL CHECK (length(resource) = 16),
  name        TEXT NOT NULL,             -- of the resource, when the code was made
  permission  TEXT NOT NULL,
  ask         INTEGER NOT NULL CHECK (ask IN (0, 1)),
  created_ms  INTEGER NOT NULL,
  expires_ms  INTEGER NOT NULL,
  uses        INTEGER,                   -- NULL: without a count
  used        INTEGER NOT NULL DEFAULT 0 CHECK (uses IS NULL OR used <= uses),
  ended       TEXT CHECK (ended IN ('expired', 'revoked')), -- once said to somebody, it stays so
  ended_ms    INTEGER,
  stale       INTEGER NOT NULL DEFAULT 0, -- in so many rounds of housekeeping it was over for long
  CHECK ((ended IS NULL) = (ended_ms IS NULL))
) STRICT;

-- Who came by a code. The row, the membership, the trust and the count are one transaction.
CREATE TABLE redemption (
  code        INTEGER NOT NULL REFERENCES code (number) ON DELETE CASCADE,
  device      BLOB NOT NULL CHECK (length(device) = 32),
  name        TEXT NOT NULL,             -- as it called itself then
  at_ms       INTEGER NOT NULL,
  new_trust   INTEGER NOT NULL CHECK (new_trust IN (0, 1)), -- the device was not trusted before
  expelled_ms INTEGER,
  PRIMARY KEY (code, device)
) STRICT, WITHOUT ROWID;

CREATE INDEX redemption_at ON redemption (code, at_ms);

-- Devices that came by a code of which somebody is asked.
CREATE TABLE join_request (
  id          TEXT PRIMARY KEY,          -- 8 hex digits
  code        INTEGER NOT NULL REFERENCES code (number) ON DELETE CASCADE,
  device      BLOB NOT NULL CHECK (length(device) = 32),
  name        TEXT NOT NULL,
  address     TEXT NOT NULL,
  port        INTEGER NOT NULL,
  created_ms  INTEGER NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('waiting', 'accepted', 'denied')),
  answered_ms INTEGER,
  UNIQUE (code, device)
) STRICT;

-- A code's payload at one store.
CREATE TABLE publication (
  code     INTEGER NOT NULL REFERENCES code (number) ON DELETE CASCADE,
  store    TEXT NOT NULL,
  state    TEXT NOT NULL CHECK (state IN ('waiting', 'published', 'failed', 'withdrawing', 'withdrawn')),
  reason   TEXT,                         -- why it failed, as JSON
  since_ms INTEGER NOT NULL,
  PRIMARY KEY (code, store)
) STRICT, WITHOUT ROWID;

-- Joins of this device that were confirmed. The proof's seed goes with the last word.
CREATE TABLE pending_join (
  id           TEXT PRIMARY KEY,           -- 8 hex digits
  seed         BLOB CHECK (length(seed) = 32), -- NULL when it is over
  payload      TEXT NOT NULL,              -- as JSON
  path         TEXT,
  created_ms   INTEGER NOT NULL,
  confirmed_ms INTEGER NOT NULL,
  expires_ms   INTEGER NOT NULL,           -- by the issuer's clock
  state        TEXT NOT NULL CHECK (state IN ('pending', 'joined', 'failed', 'canceled')),
  result       TEXT,
  reason       TEXT,                       -- as JSON
  ended_ms     INTEGER,
  CHECK ((state = 'pending') = (seed IS NOT NULL)),
  CHECK ((state = 'pending') = (ended_ms IS NULL))
) STRICT;
