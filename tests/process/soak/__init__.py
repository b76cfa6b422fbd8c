"""``make soak``: producers and files that know what was promised, an API that remembers, kill -9 in between.

``python -m tests.process.soak --help``. A round is one installation in a shape of ``run.py`` or
``replay.py``: it lives, is killed at random or at a single
request, lives again, is drained and then judged (``judge.py``).
"""
