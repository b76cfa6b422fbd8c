-- Version 5: where an event is.

-- What became of events, by the digests of their keys: accepted, delivered, dead-lettered, one row for many events.
-- A trail for people; nothing depends on it, and old rows go (``trail.py``).
CREATE TABLE trail (
    id      INTEGER PRIMARY KEY,
    at      REAL NOT NULL,
    what    TEXT NOT NULL,
    sink    TEXT NOT NULL,                    -- empty: accepted
    batch   TEXT NOT NULL,                    -- the id of its request
    info    TEXT NOT NULL,                    -- whose, or after how many attempts, or why
    digests BLOB NOT NULL                     -- 16 bytes an event
);
CREATE INDEX trail_by_batch ON trail (batch) WHERE batch <> '';
