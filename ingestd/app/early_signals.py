"""Signals in the first moments, while everything is imported: they end the process, quietly.

As process 1 of a container nothing would, without a handler; and an interrupt in the middle of an import is a
traceback. Code that has something to save installs handlers of its own.
"""

import os
import signal
import sys
from types import FrameType

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143


def install() -> None:
    """SIGINT ends with 130, SIGTERM with 143; of ``run`` with 0, as after any drain: nothing was accepted.
    There SIGHUP means nothing yet: the configuration is going to be read."""
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    if _is_run():
        signal.signal(signal.SIGHUP, _go_on)


def give_back_interrupt() -> None:
    """Before an event loop begins: it makes of an interrupt what its tasks can clean up after."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    if number == signal.SIGINT:
        os.write(2, b"ingestd: interrupted\n")
        os._exit(EXIT_INTERRUPTED)
    os._exit(0 if _is_run() else EXIT_TERMINATED)


def _go_on(number: int, frame: FrameType | None) -> None:
    del number, frame


def _is_run() -> bool:
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "") == "run"
