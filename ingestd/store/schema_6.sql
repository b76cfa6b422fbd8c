-- Version 6: whose an event is.

-- owners: of the events of a chunk, in their order: a producer's name, or "name*count" a line (store/trail.py). Of
-- chunks from before this version it is empty: then nobody knows.
ALTER TABLE spool ADD COLUMN owners TEXT NOT NULL DEFAULT '';
ALTER TABLE letters ADD COLUMN producer TEXT NOT NULL DEFAULT '';
