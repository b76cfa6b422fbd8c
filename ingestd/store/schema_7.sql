-- Version 7: events that are changed on their way to a sink.

-- sent: the batch's events as they are sent, until it is settled; NULL: they are as they came.
ALTER TABLE batches ADD COLUMN sent BLOB;

-- form: 0: the payload is as the event came, and is sent so; 1: it is as the event came, and transforms have to run
-- before it is sent; 2: transforms have made it.
ALTER TABLE letters ADD COLUMN form INTEGER NOT NULL DEFAULT 0;
-- Letters that have no sink yet get its transforms when they get it.
