"""The event loop of a command."""

import gc
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TypeVar

import anyio

from ingestd.app import early_signals
from ingestd.core.errors import UserError, first_cause

T = TypeVar("T")


def run_loop(main: Callable[[], Awaitable[T]]) -> T:
    """Run on uvloop; a group of errors that is one user's error comes out as that error."""
    # What is imported stays: no collection needs to walk it again. Events are no cycles: 700 would be low.
    import_module("uvloop")
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
    early_signals.give_back_interrupt()
    try:
        return anyio.run(main, backend_options={"use_uvloop": True})
    except BaseExceptionGroup as group:
        user_errors, others = group.split(UserError)
        if user_errors is None or others is not None:
            raise
        raise first_cause(user_errors) from None
