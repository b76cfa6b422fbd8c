-- Version 1 of the state file. A later version adds a numbered migration; it never edits this one.

CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('commits', 0);

-- Where events came from. A file is known by device, inode and a fingerprint of its head.
CREATE TABLE sources (
    id          INTEGER PRIMARY KEY,
    path        TEXT NOT NULL,
    device      INTEGER NOT NULL,
    inode       INTEGER NOT NULL,
    head        BLOB NOT NULL,
    head_bytes  INTEGER NOT NULL,
    position    INTEGER NOT NULL DEFAULT 0,   -- every event before it has had its end
    line        INTEGER NOT NULL DEFAULT 1,
    updated     REAL NOT NULL
);
CREATE INDEX sources_by_inode ON sources (device, inode);

-- Batches that were frozen, until all their events lie before their sources' positions.
-- segments: msgpack [(source, start, end, positions)]; body: kept only where it cannot be read again.
CREATE TABLE batches (
    id          TEXT PRIMARY KEY,
    settled     INTEGER NOT NULL DEFAULT 0,
    frozen_at   REAL NOT NULL,
    events      INTEGER NOT NULL,
    body_digest BLOB NOT NULL,
    segments    BLOB NOT NULL,
    kept        BLOB                          -- msgpack [events], for standard input
) WITHOUT ROWID;

-- Keys of safe events, 16 bytes each, in the order they became safe.
CREATE TABLE window (id INTEGER PRIMARY KEY, confirmed_at REAL NOT NULL, digests BLOB NOT NULL);

CREATE TABLE letters (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    state        TEXT NOT NULL CHECK (state IN ('waiting', 'leased', 'delivered')),
    reason       TEXT NOT NULL,
    detail       TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    payload      BLOB NOT NULL,
    checksum     INTEGER NOT NULL,            -- CRC-32 of the payload
    source       INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    line         INTEGER NOT NULL,
    digest       BLOB,
    batch        TEXT NOT NULL,
    batch_index  INTEGER NOT NULL,
    batch_size   INTEGER NOT NULL,
    unanswered   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    first_sent   REAL NOT NULL,
    first_failed REAL NOT NULL,
    last_failed  REAL NOT NULL,
    due          REAL,                        -- NULL: waits for a person
    lease        REAL,                        -- until when, for state 'leased'
    settled_at   REAL,
    edited       INTEGER NOT NULL DEFAULT 0,
    requested    INTEGER NOT NULL DEFAULT 0   -- a person wants it sent now
);
-- A crash between a letter and its source's position must not write it twice.
CREATE UNIQUE INDEX letters_by_origin ON letters (source, offset) WHERE offset >= 0;
CREATE INDEX letters_by_due ON letters (due) WHERE due IS NOT NULL;
CREATE INDEX letters_by_batch ON letters (batch) WHERE unanswered;  -- these are sent again together
