-- Version 8: large chunks of the spool are compressed.

-- payload of ``spool``: since this version it may be a frame of zstd around the msgpack list. An earlier version would
-- take such a row for a damaged one.
