"""From a source to the lanes.

``replay_intake.py`` for files; ``admission.py``, the spool and ``spool_feed.py`` for what producers post.
"""
