-- Version 3: several sinks, confirmations, the lake's outbox.

-- Before this version there was one sink.
ALTER TABLE batches ADD COLUMN sink TEXT NOT NULL DEFAULT 'ingest_api';

-- sink: whose dead letter it is; empty: it was rejected before it was routed.
ALTER TABLE letters ADD COLUMN sink TEXT NOT NULL DEFAULT '';
UPDATE letters SET sink = 'ingest_api' WHERE batch <> '' OR reason NOT IN ('invalid', 'unparsable', 'line_too_long');
DROP INDEX letters_by_origin;
CREATE UNIQUE INDEX letters_by_origin ON letters (source, offset, sink) WHERE offset >= 0;

-- How far each sink has come in the spool: every chunk before ``position`` has had its end there.
CREATE TABLE cursors (sink TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;

-- Events that an API has accepted and that it will be asked about. The payload is here: of what fails
-- after all, a dead letter is made.
CREATE TABLE confirmations (
    id          INTEGER PRIMARY KEY,
    sink        TEXT NOT NULL,
    remote_id   TEXT NOT NULL,                -- the API's own id of the event
    accepted_at REAL NOT NULL,
    due         REAL NOT NULL,                -- when to ask next
    asked       INTEGER NOT NULL DEFAULT 0,
    batch       TEXT NOT NULL,
    source      INTEGER NOT NULL,
    offset      INTEGER NOT NULL,
    line        INTEGER NOT NULL,
    digest      BLOB,
    attempts    INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,             -- CRC-32 of the payload
    payload     BLOB NOT NULL
);
CREATE INDEX confirmations_by_due ON confirmations (sink, due);

-- Events on their way to the lake: they are here in the same transaction that made them accepted, or
-- delivered, and go when their file is whole.
CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY,
    sink        TEXT NOT NULL,                -- the lake's name
    request_id  TEXT NOT NULL,                -- of the batch that was delivered; empty: accepted
    latency_s   REAL NOT NULL,                -- of its last attempt
    at          REAL NOT NULL,                -- wall time: accepted or delivered
    events      INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    crc         INTEGER NOT NULL,             -- CRC-32 of the payload
    file        TEXT,                         -- the file it is to be in, once that has been decided
    payload     BLOB NOT NULL                 -- msgpack [events]
);
CREATE INDEX outbox_by_file ON outbox (file) WHERE file IS NOT NULL;
