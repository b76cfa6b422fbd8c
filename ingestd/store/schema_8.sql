-- Version 8: large chunks of the spool are compressed, and letters of one request share what they have in common.

-- payload of ``spool``: since this version it may be a frame of zstd around the msgpack list. An earlier version would
-- take such a row for a damaged one.

-- A letter is in one of two tables, under a number that none of the other has. Here are those that something may
-- happen to by itself, or has happened to: each has all of it in its row.
ALTER TABLE letters RENAME TO single_letters;
INSERT INTO sqlite_sequence SELECT 'single_letters', 0
    WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'single_letters');

-- What letters have in common that were written together and wait for a person. id: the number of the first
-- of them; the others have the numbers behind it. An envelope goes with the last letter that is left in it.
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
CREATE INDEX envelopes_by_place ON envelopes (source, level, first_offset);

-- What each of those letters has for itself. All that is ever changed here is whether its key is free: before
-- anything else happens to a letter it becomes a single one (``envelopes.py``).
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
CREATE TRIGGER sealed_letter_gone AFTER DELETE ON sealed_letters BEGIN
    UPDATE letter_counts SET letters = letters - 1 WHERE state = 'waiting';
END;

-- A sealed letter as a row of ``single_letters``. The casts give each column the type that it has there: without
-- them SQLite reads all letters before it looks at a condition.
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

-- All letters, for whoever reads. Nobody writes to it.
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
