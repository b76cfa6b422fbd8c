"""What a process of tests tidies up at its end: its own, nothing of the process that it was forked from."""

import atexit
import os
from collections.abc import Callable

_callbacks: list[tuple[int, Callable[[], object]]] = []


def at_end(callback: Callable[[], object]) -> None:
    """Called in this process, the last first. What it holds lives on in those that are forked."""
    _callbacks.append((os.getpid(), callback))


@atexit.register
def end() -> None:
    """A forked process has to call it: it ends without ``atexit``."""
    for owner, callback in reversed(_callbacks):
        if owner == os.getpid():
            callback()
