"""From a source to the lanes.

``replay_intake.py`` for files; ``admission.py``, the spool as a source, and ``spool_feed.py`` for posts.
"""
