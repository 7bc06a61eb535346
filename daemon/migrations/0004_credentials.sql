-- The vault. Its data key seals every value below; changing what wraps it rewrites this one row.
CREATE TABLE vault (
  one         INTEGER PRIMARY KEY CHECK (one = 1),
  id          BLOB NOT NULL CHECK (length(id) = 16), -- bound into everything that is sealed
  mode        TEXT NOT NULL CHECK (mode IN ('credential', 'file', 'passphrase')), -- what the wrapping key comes from
  wrapped     BLOB NOT NULL,             -- [nonce: 12 bytes][AES-256-GCM of the data key, bound to id and mode]
  -- Argon2id, for a passphrase only.
  salt        BLOB CHECK (length(salt) = 16),
  memory_kib  INTEGER,
  passes      INTEGER,
  lanes       INTEGER,
  replaced    BLOB CHECK (length(replaced) = 32), -- which vault.key this took the place of: its fingerprint; it is removed
  CHECK ((mode = 'passphrase') = (salt IS NOT NULL AND memory_kib IS NOT NULL AND passes IS NOT NULL AND lanes IS NOT NULL))
) STRICT;

-- Secrets. Only the value is sealed, bound to name, type and revision: rows that are swapped or changed do not open.
CREATE TABLE secret (
  id         INTEGER PRIMARY KEY,
  name       TEXT NOT NULL,
  folded     TEXT NOT NULL UNIQUE,       -- see kith_proto::text::fold: names differ by more than case
  type       TEXT NOT NULL CHECK (type IN ('s3-credentials', 'encryption-key', 'api-key', 'plain')),
  revision   INTEGER NOT NULL,           -- counts the seals of this row
  sealed     BLOB NOT NULL,              -- [nonce: 12 bytes][AES-256-GCM of the value]
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL
) STRICT;

-- Configured databases, and which secrets they use. Nothing here is secret.
CREATE TABLE database (
  id          INTEGER PRIMARY KEY,
  name        TEXT NOT NULL,
  folded      TEXT NOT NULL UNIQUE,
  description TEXT NOT NULL,
  path        TEXT NOT NULL,
  origin      TEXT,
  s3          INTEGER REFERENCES secret (id) ON DELETE SET NULL,
  encryption  INTEGER REFERENCES secret (id) ON DELETE SET NULL,
  geocoding   INTEGER REFERENCES secret (id) ON DELETE SET NULL,
  created_ms  INTEGER NOT NULL,
  updated_ms  INTEGER NOT NULL
) STRICT;
CREATE INDEX database_s3 ON database (s3) WHERE s3 IS NOT NULL;
CREATE INDEX database_encryption ON database (encryption) WHERE encryption IS NOT NULL;
CREATE INDEX database_geocoding ON database (geocoding) WHERE geocoding IS NOT NULL;

-- What paired devices handed over and nobody has looked through yet.
CREATE TABLE share_inbox (
  id         TEXT PRIMARY KEY,
  peer       BLOB NOT NULL CHECK (length(peer) = 32),
  kind       TEXT NOT NULL CHECK (kind IN ('secret', 'database')),
  name       TEXT NOT NULL,
  sealed     BLOB NOT NULL,              -- [nonce: 12 bytes][AES-256-GCM of the payload's JSON]
  created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX share_inbox_peer ON share_inbox (peer);
