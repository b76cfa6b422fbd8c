-- Version 4: keys of batches on their way, and a second fingerprint of files.

-- keys: of the batch's events, 16 bytes each, until it is settled; NULL where a restart knows them otherwise.
ALTER TABLE batches ADD COLUMN keys BLOB;

-- The bytes of the file before ``tail_end``, when the position was noted. NULL: not known.
ALTER TABLE sources ADD COLUMN tail BLOB;
ALTER TABLE sources ADD COLUMN tail_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sources ADD COLUMN tail_end INTEGER NOT NULL DEFAULT 0;

-- Dead letters that keep their keys, their places and their count.

-- How often a source was read from its start: a place in it may fail again each time.
ALTER TABLE sources ADD COLUMN reading INTEGER NOT NULL DEFAULT 0;

-- reading: the reading of its source that it is of. original: CRC-32 of the payload before a person changed
-- it; NULL: it is what was read. key_released: its key was free again when it was made, so one that is known now is
-- of an event that was accepted after it. obstacle: why it is not sent without a person, in words.
-- requested: since this version the wall time at which a person asked for it; 0: nobody did.
ALTER TABLE letters ADD COLUMN reading INTEGER NOT NULL DEFAULT 0;
ALTER TABLE letters ADD COLUMN original INTEGER;
ALTER TABLE letters ADD COLUMN key_released INTEGER NOT NULL DEFAULT 0;
ALTER TABLE letters ADD COLUMN obstacle TEXT NOT NULL DEFAULT '';

-- Before, the key of a letter that was sent alone was kept nowhere, and who had asked for one was not known once
-- it was on its way. One that was when its process ended may have been taken: it waits for a person. Its size of
-- 0 says that the request cannot be repeated.
UPDATE letters SET unanswered = 1, batch_size = 0, due = NULL,
    obstacle = 'its request may have been taken, under a key that was not kept by the version before'
    WHERE state = 'leased' AND unanswered = 0;
UPDATE letters SET requested = (julianday('now') - 2440587.5) * 86400.0 WHERE requested <> 0;

-- A crash between a letter and its source's position must not write it twice.
DROP INDEX letters_by_origin;
CREATE UNIQUE INDEX letters_by_origin ON letters (source, offset, sink, reading, coalesce(original, checksum))
    WHERE offset >= 0;

-- What is sent next is found at the front of one of these, and leaves them with its lease.
DROP INDEX letters_by_due;
CREATE INDEX letters_by_due ON letters (sink, unanswered, due) WHERE state = 'waiting' AND due IS NOT NULL;
CREATE INDEX letters_by_request ON letters (sink, unanswered, due) WHERE state = 'waiting' AND requested <> 0;
-- ambiguous: its request may have been taken.
ALTER TABLE letters RENAME COLUMN unanswered TO ambiguous;
UPDATE letters SET reason = 'unencodable', fingerprint = 'unencodable' || substr(fingerprint, 6)
    WHERE reason = 'unfit';
CREATE INDEX letters_leased ON letters (id) WHERE state = 'leased';
CREATE INDEX letters_delivered ON letters (settled_at) WHERE state = 'delivered';

-- How many letters there are in each state, kept by the same transactions: with a million of them, counting
-- takes seconds. Who inserts letters counts them, many at once: ``dead_letters.count_made``.
CREATE TABLE letter_counts (state TEXT PRIMARY KEY, letters INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO letter_counts VALUES ('waiting', 0), ('leased', 0), ('delivered', 0);
INSERT OR REPLACE INTO letter_counts SELECT state, count(*) FROM letters GROUP BY state;
CREATE TRIGGER letter_moved AFTER UPDATE OF state ON letters WHEN old.state <> new.state BEGIN
    UPDATE letter_counts SET letters = letters - 1 WHERE state = old.state;
    UPDATE letter_counts SET letters = letters + 1 WHERE state = new.state;
END;
CREATE TRIGGER letter_gone AFTER DELETE ON letters BEGIN
    UPDATE letter_counts SET letters = letters - 1 WHERE state = old.state;
END;
