-- What this device counts, over all journals.
CREATE TABLE sync_state (
  one   INTEGER PRIMARY KEY CHECK (one = 1),
  epoch BLOB NOT NULL CHECK (length(epoch) = 16), -- this life of the database
  clock INTEGER NOT NULL,                -- the greatest stamp that was seen
  seq   INTEGER NOT NULL                 -- no entry gets this seq or a lower one, also when those that had it are gone
) STRICT;
INSERT INTO sync_state VALUES (1, randomblob(16), 0, 0);

-- Journals. One that was left stays as a tombstone, so that nobody brings it back by talking of it.
CREATE TABLE journal (
  number     INTEGER PRIMARY KEY,
  id         BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
  name       TEXT NOT NULL UNIQUE,       -- as this device calls it
  state      TEXT NOT NULL CHECK (state IN ('active', 'offered', 'removed', 'left')),
  resource   TEXT,                       -- JSON, see kith_proto::peer::journal::member::Resource; NULL: the default one
  created_ms INTEGER NOT NULL,
  horizon    INTEGER NOT NULL DEFAULT 0, -- deletions up to this stamp are forgotten
  -- What follows could be counted, which takes too long: it changes with the rows.
  count      INTEGER NOT NULL DEFAULT 0, -- current versions, deletions included
  sum        BLOB NOT NULL DEFAULT (zeroblob(32)), -- of all elements
  tombstones INTEGER NOT NULL DEFAULT 0, -- current versions that are deletions
  history    INTEGER NOT NULL DEFAULT 0, -- rows of journal_kept
  recovered  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Numbers that journals had before they were left: what still has them is deleted, a little at a time.
CREATE TABLE journal_rubbish (
  journal INTEGER PRIMARY KEY
) STRICT;

-- Who takes part, and who did.
CREATE TABLE journal_member (
  journal INTEGER NOT NULL,
  device  BLOB NOT NULL CHECK (length(device) = 32),
  creator INTEGER NOT NULL,              -- 1: what the journal's creator says; 0: what others say
  record  TEXT NOT NULL,                 -- JSON, see kith_proto::peer::journal::member::Record
  PRIMARY KEY (journal, device, creator)
) STRICT, WITHOUT ROWID;

-- Lives of databases, and who wrote under which of them: rows of entries name them by small numbers.
CREATE TABLE journal_epoch (
  number INTEGER PRIMARY KEY,
  epoch  BLOB NOT NULL UNIQUE CHECK (length(epoch) = 16)
) STRICT;
CREATE TABLE journal_writer (
  number INTEGER PRIMARY KEY,
  device BLOB NOT NULL CHECK (length(device) = 32),
  epoch  INTEGER NOT NULL,
  UNIQUE (device, epoch)
) STRICT;

-- Current versions. No foreign keys here: a look-up for each row of a first sync is too much.
CREATE TABLE journal_entry (
  seq     INTEGER PRIMARY KEY,           -- the order of changes here; a rewrite takes a new one
  journal INTEGER NOT NULL,
  id      TEXT NOT NULL,
  stamp   INTEGER NOT NULL,
  writer  INTEGER NOT NULL,              -- journal_writer
  origin  INTEGER NOT NULL,              -- journal_epoch: whom it came from
  deleted INTEGER NOT NULL,
  context BLOB NOT NULL,                 -- [journal_epoch: 4 bytes][stamp: 8 bytes] of each version known to it
  meta    TEXT NOT NULL,
  hash    BLOB NOT NULL,
  size    INTEGER NOT NULL,
  body    BLOB NOT NULL,                 -- last: what is long lies on pages that a list does not read
  UNIQUE (journal, id)
) STRICT;
-- The order of changes of one journal, with what is asked of many rows at once.
CREATE INDEX journal_entry_order ON journal_entry (journal, seq, origin, deleted);
CREATE INDEX journal_entry_deleted ON journal_entry (journal, stamp, seq) WHERE deleted = 1;

-- What stands for the current versions when journals are compared: also their order by time.
CREATE TABLE journal_element (
  journal INTEGER NOT NULL,
  stamp   INTEGER NOT NULL,
  element BLOB NOT NULL,
  seq     INTEGER NOT NULL,
  PRIMARY KEY (journal, stamp, element)
) STRICT, WITHOUT ROWID;

-- Count and sum of neighbouring elements, from the lower bound to that of the next chunk. The first begins at zero.
CREATE TABLE journal_chunk (
  journal INTEGER NOT NULL,
  stamp   INTEGER NOT NULL,
  element BLOB NOT NULL,
  count   INTEGER NOT NULL,
  sum     BLOB NOT NULL,
  PRIMARY KEY (journal, stamp, element)
) STRICT, WITHOUT ROWID;

-- Versions that are not current: they lost a conflict, or came back from before the horizon.
CREATE TABLE journal_kept (
  number  INTEGER PRIMARY KEY,
  journal INTEGER NOT NULL,
  place   TEXT NOT NULL CHECK (place IN ('history', 'recovered')),
  id      TEXT NOT NULL,
  stamp   INTEGER NOT NULL,
  element BLOB NOT NULL,
  writer  INTEGER NOT NULL,
  deleted INTEGER NOT NULL,
  context BLOB NOT NULL,
  meta    TEXT NOT NULL,
  hash    BLOB NOT NULL,
  size    INTEGER NOT NULL,
  kept_ms INTEGER NOT NULL,
  body    BLOB NOT NULL,
  UNIQUE (journal, element)
) STRICT;
CREATE INDEX journal_kept_order ON journal_kept (journal, place, id, stamp);
CREATE INDEX journal_kept_age ON journal_kept (kept_ms) WHERE place = 'history';

-- Beginnings of bodies that arrive in pieces.
CREATE TABLE journal_piece (
  journal INTEGER NOT NULL,
  hash    BLOB NOT NULL,                 -- of the content
  offset  INTEGER NOT NULL,
  at_ms   INTEGER NOT NULL,
  data    BLOB NOT NULL,
  PRIMARY KEY (journal, hash, offset)
) STRICT;

-- Up to which stamp a life of a database is known to have written.
CREATE TABLE journal_seen (
  journal INTEGER NOT NULL,
  epoch   INTEGER NOT NULL,
  stamp   INTEGER NOT NULL,
  PRIMARY KEY (journal, epoch)
) STRICT, WITHOUT ROWID;

-- How far this device and another one are with a journal.
CREATE TABLE journal_peer (
  journal      INTEGER NOT NULL,
  peer         BLOB NOT NULL CHECK (length(peer) = 32),
  epoch        INTEGER,                  -- journal_epoch: the life of its database that `since` counts in
  since        INTEGER NOT NULL DEFAULT 0, -- it has nothing up to this seq of its own that is not here
  acknowledged INTEGER NOT NULL DEFAULT 0, -- it has all that is here up to this seq
  member_ms    INTEGER,                  -- since when it is counted among the members; NULL: it is not
  last_sync_ms INTEGER,
  conflicts    INTEGER NOT NULL DEFAULT 0,
  refused      TEXT NOT NULL DEFAULT '[]', -- JSON, the first of the last session: [{id, reason}]
  PRIMARY KEY (journal, peer)
) STRICT, WITHOUT ROWID;

-- How the last session with a device went.
CREATE TABLE sync_peer (
  peer         BLOB PRIMARY KEY CHECK (length(peer) = 32),
  last_sync_ms INTEGER,                  -- the last one that ended well
  skew_ms      INTEGER,
  error        TEXT,                     -- JSON, see kith_proto::control::types::Failure
  error_ms     INTEGER
) STRICT, WITHOUT ROWID;
