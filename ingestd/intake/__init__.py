"""From a source to the lane: ``files.py`` for a replay; ``reception.py``, the spool and ``spool_feed.py`` for
events that producers post."""
