-- What all migrations come to, made by `make reference`: write a migration instead.
CREATE TABLE batches (
    id          TEXT PRIMARY KEY,
    settled     INTEGER NOT NULL DEFAULT 0,
    frozen_at   REAL NOT NULL,
    events      INTEGER NOT NULL,
    body_digest BLOB NOT NULL,
    segments    BLOB NOT NULL,
    kept        BLOB                          -- msgpack [events], for standard input
, sink TEXT NOT NULL DEFAULT 'ingest_api', keys BLOB, sent BLOB) WITHOUT ROWID;
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
CREATE TABLE cursors (sink TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE envelopes (
    id           INTEGER PRIMARY KEY,
    letters      INTEGER NOT NULL,            -- that were in it at first
    source       INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,            -- of its letters, the lowest and the highest
    last_offset  INTEGER NOT NULL,
    level        INTEGER NOT NULL,            -- they are less than 2^level apart: those of a place are found by it
    sink         TEXT NOT NULL,
    reading      INTEGER NOT NULL,
    failed       REAL NOT NULL,
    reason       TEXT NOT NULL,               -- this and the next two: of a letter that has no words of its own
    detail       TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    batch        TEXT NOT NULL,
    batch_size   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    first_sent   REAL NOT NULL,
    producer     TEXT NOT NULL,
    form         INTEGER NOT NULL
);
CREATE TABLE letter_counts (state TEXT PRIMARY KEY, letters INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "letter_counts" VALUES('delivered',0);
INSERT INTO "letter_counts" VALUES('leased',0);
INSERT INTO "letter_counts" VALUES('waiting',0);
CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('commits',0);
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
CREATE TABLE sealed_letters (
    id           INTEGER PRIMARY KEY,
    envelope     INTEGER NOT NULL,
    key_released INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    line         INTEGER NOT NULL,
    batch_index  INTEGER NOT NULL,
    checksum     INTEGER NOT NULL,
    detail       TEXT,                        -- this and the next: NULL: as its envelope says
    fingerprint  TEXT,
    digest       BLOB,
    payload      BLOB NOT NULL
);
CREATE TABLE "single_letters" (
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
    ambiguous   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    first_sent   REAL NOT NULL,
    first_failed REAL NOT NULL,
    last_failed  REAL NOT NULL,
    due          REAL,                        -- NULL: waits for a person
    lease        REAL,                        -- until when, for state 'leased'
    settled_at   REAL,
    edited       INTEGER NOT NULL DEFAULT 0,
    requested    INTEGER NOT NULL DEFAULT 0   -- a person wants it sent now
, sink TEXT NOT NULL DEFAULT '', reading INTEGER NOT NULL DEFAULT 0, original INTEGER, key_released INTEGER NOT NULL DEFAULT 0, obstacle TEXT NOT NULL DEFAULT '', producer TEXT NOT NULL DEFAULT '', form INTEGER NOT NULL DEFAULT 0);
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
, tail BLOB, tail_bytes INTEGER NOT NULL DEFAULT 0, tail_end INTEGER NOT NULL DEFAULT 0, reading INTEGER NOT NULL DEFAULT 0);
CREATE TABLE spool (
    id          INTEGER PRIMARY KEY,
    accepted_at REAL NOT NULL,
    events      INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    crc         INTEGER NOT NULL,             -- CRC-32 of number, digests and payload
    digests     BLOB NOT NULL,                -- 16 bytes an event; zeros: it has no key
    payload     BLOB NOT NULL                 -- msgpack [events]
, owners TEXT NOT NULL DEFAULT '');
CREATE TABLE spool_damage (
    id       INTEGER PRIMARY KEY,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    events   INTEGER,                         -- NULL: not known
    found_at REAL NOT NULL,
    what     TEXT NOT NULL,
    payload  BLOB
);
CREATE TABLE spool_totals (chunks INTEGER NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL, next INTEGER NOT NULL);
INSERT INTO "spool_totals" VALUES(0,0,0,1);
CREATE TABLE trail (
    id      INTEGER PRIMARY KEY,
    at      REAL NOT NULL,
    what    TEXT NOT NULL,
    sink    TEXT NOT NULL,                    -- empty: accepted
    batch   TEXT NOT NULL,                    -- the id of its request
    info    TEXT NOT NULL,                    -- whose, or after how many attempts, or why
    digests BLOB NOT NULL                     -- 16 bytes an event
);
CREATE TABLE window (id INTEGER PRIMARY KEY, confirmed_at REAL NOT NULL, digests BLOB NOT NULL, released INTEGER NOT NULL DEFAULT 0);
CREATE INDEX sources_by_inode ON sources (device, inode);
CREATE INDEX letters_by_batch ON "single_letters" (batch) WHERE ambiguous;
CREATE TRIGGER spool_appended AFTER INSERT ON spool BEGIN
    UPDATE spool_totals SET chunks = chunks + 1, events = events + new.events, bytes = bytes + new.bytes,
                            next = max(next, new.id + 1);
END;
CREATE TRIGGER spool_settled AFTER DELETE ON spool BEGIN
    UPDATE spool_totals SET chunks = chunks - 1, events = events - old.events, bytes = bytes - old.bytes;
END;
CREATE INDEX confirmations_by_due ON confirmations (sink, due);
CREATE INDEX outbox_by_file ON outbox (file) WHERE file IS NOT NULL;
CREATE UNIQUE INDEX letters_by_origin ON "single_letters" (source, offset, sink, reading, coalesce(original, checksum))
    WHERE offset >= 0;
CREATE INDEX letters_by_due ON "single_letters" (sink, ambiguous, due) WHERE state = 'waiting' AND due IS NOT NULL;
CREATE INDEX letters_by_request ON "single_letters" (sink, ambiguous, due) WHERE state = 'waiting' AND requested <> 0;
CREATE INDEX letters_leased ON "single_letters" (id) WHERE state = 'leased';
CREATE INDEX letters_delivered ON "single_letters" (settled_at) WHERE state = 'delivered';
CREATE TRIGGER letter_moved AFTER UPDATE OF state ON "single_letters" WHEN old.state <> new.state BEGIN
    UPDATE letter_counts SET letters = letters - 1 WHERE state = old.state;
    UPDATE letter_counts SET letters = letters + 1 WHERE state = new.state;
END;
CREATE TRIGGER letter_gone AFTER DELETE ON "single_letters" BEGIN
    UPDATE letter_counts SET letters = letters - 1 WHERE state = old.state;
END;
CREATE INDEX trail_by_batch ON trail (batch) WHERE batch <> '';
CREATE INDEX envelopes_by_place ON envelopes (source, level, first_offset);
CREATE TRIGGER sealed_letter_gone AFTER DELETE ON sealed_letters BEGIN
    UPDATE letter_counts SET letters = letters - 1 WHERE state = 'waiting';
END;
CREATE VIEW letters_in_envelopes AS SELECT
    one.id AS id,
    CAST('waiting' AS TEXT) AS state,
    envelope.reason AS reason,
    CAST(coalesce(one.detail, envelope.detail) AS TEXT) AS detail,
    CAST(coalesce(one.fingerprint, envelope.fingerprint) AS TEXT) AS fingerprint,
    one.payload AS payload,
    one.checksum AS checksum,
    envelope.source AS source,
    one.offset AS offset,
    one.line AS line,
    one.digest AS digest,
    envelope.batch AS batch,
    one.batch_index AS batch_index,
    envelope.batch_size AS batch_size,
    CAST(0 AS INTEGER) AS ambiguous,
    envelope.attempts AS attempts,
    envelope.first_sent AS first_sent,
    envelope.failed AS first_failed,
    envelope.failed AS last_failed,
    CAST(NULL AS REAL) AS due,
    CAST(NULL AS REAL) AS lease,
    CAST(NULL AS REAL) AS settled_at,
    CAST(0 AS INTEGER) AS edited,
    CAST(0 AS INTEGER) AS requested,
    envelope.sink AS sink,
    envelope.reading AS reading,
    CAST(NULL AS INTEGER) AS original,
    one.key_released AS key_released,
    CAST('' AS TEXT) AS obstacle,
    envelope.producer AS producer,
    envelope.form AS form
FROM sealed_letters AS one JOIN envelopes AS envelope ON envelope.id = one.envelope;
CREATE VIEW letters AS
    SELECT id, state, reason, detail, fingerprint, payload, checksum, source, offset, line, digest, batch, batch_index,
        batch_size, ambiguous, attempts, first_sent, first_failed, last_failed, due, lease, settled_at, edited, requested,
        sink, reading, original, key_released, obstacle, producer, form
    FROM single_letters
    UNION ALL
    SELECT id, state, reason, detail, fingerprint, payload, checksum, source, offset, line, digest, batch, batch_index,
        batch_size, ambiguous, attempts, first_sent, first_failed, last_failed, due, lease, settled_at, edited, requested,
        sink, reading, original, key_released, obstacle, producer, form
    FROM letters_in_envelopes;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('single_letters',0);
