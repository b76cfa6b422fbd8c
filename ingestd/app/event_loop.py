"""The event loop of a command."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ingestd.app import early_signals
from ingestd.core.errors import UserError, first_cause

T = TypeVar("T")


def run_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run on uvloop; a group of errors that is one user's error comes out as that error. Raises what that
    raised."""
    import uvloop

    # What is imported stays: no collection needs to walk it again. Events are no cycles: 700 would be low.
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
    early_signals.give_back_interrupt()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    except BaseExceptionGroup as group:
        user_errors, others = group.split(UserError)
        if user_errors is None or others is not None:
            raise
        raise first_cause(user_errors) from None
