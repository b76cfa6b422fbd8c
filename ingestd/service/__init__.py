"""The process's life: ``replay.py`` to the end of its sources, ``run.py`` until it is told to stop."""
