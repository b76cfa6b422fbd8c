-- Version 2: the spool of `ingestd run`.

-- What producers were told is taken over, until all of it has had its end. One row is a chunk: the
-- events of requests that came together. Numbers are never used twice.
CREATE TABLE spool (
    id          INTEGER PRIMARY KEY,
    accepted_at REAL NOT NULL,
    events      INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    crc         INTEGER NOT NULL,             -- CRC-32 of number, digests and payload
    digests     BLOB NOT NULL,                -- 16 bytes an event; zeros: it has no key
    payload     BLOB NOT NULL                 -- msgpack [events]
);

-- What must be in the spool, kept by the same transactions: rows that vanish are missed.
CREATE TABLE spool_totals (chunks INTEGER NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL, next INTEGER NOT NULL);
INSERT INTO spool_totals VALUES (0, 0, 0, 1);
CREATE TRIGGER spool_appended AFTER INSERT ON spool BEGIN
    UPDATE spool_totals SET chunks = chunks + 1, events = events + new.events, bytes = bytes + new.bytes,
                            next = max(next, new.id + 1);
END;
CREATE TRIGGER spool_settled AFTER DELETE ON spool BEGIN
    UPDATE spool_totals SET chunks = chunks - 1, events = events - old.events, bytes = bytes - old.bytes;
END;

-- Chunks that were found to be damaged or gone, for a person to look at. payload: what is left, if anything.
CREATE TABLE spool_damage (
    id       INTEGER PRIMARY KEY,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    events   INTEGER,                         -- NULL: not known
    found_at REAL NOT NULL,
    what     TEXT NOT NULL,
    payload  BLOB
);

-- Rows of keys that were freed again, because their events became dead letters.
ALTER TABLE window ADD COLUMN released INTEGER NOT NULL DEFAULT 0;
