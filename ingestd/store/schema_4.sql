-- Version 4: keys of batches on their way, and a second fingerprint of files.

-- keys: of the batch's events, 16 bytes each, until it is settled; NULL where a restart knows them otherwise.
ALTER TABLE batches ADD COLUMN keys BLOB;

-- The bytes of the file before ``tail_end``, when the position was noted. NULL: not known.
ALTER TABLE sources ADD COLUMN tail BLOB;
ALTER TABLE sources ADD COLUMN tail_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sources ADD COLUMN tail_end INTEGER NOT NULL DEFAULT 0;
