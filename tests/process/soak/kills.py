"""When a life ends: at random, or at a single request."""

import asyncio
import os
import random
import signal
from asyncio.subprocess import Process
from contextlib import suppress

from tests.machine import patience
from tests.process.soak.api import STAGES, Api


async def kill(
    process: Process, api: Api, rng: random.Random, *, within_s: float = 0.6, member: str = ""
) -> bool:
    """Half of all kills are aimed. Gives whether it was killed: it may have ended before. ``member``: of a
    group, who is killed; a request of another one may be what it is aimed at.

    An aimed kill whose request does not come (a sink is dead, all is sent) is one at a late moment.
    """
    killed = asyncio.Event()

    def at_once() -> None:
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)  # Popen.send_signal would reap it, and its code be lost
            api.note("", None, "KILL", member=member)
        killed.set()

    if rng.random() < 0.5:
        api.aim(rng.choice(STAGES), rng.randrange(12), at_once)
        within_s *= 3
    over = asyncio.ensure_future(process.wait())
    hit = asyncio.ensure_future(killed.wait())
    await asyncio.wait(
        [over, hit], timeout=rng.uniform(0, patience(within_s)), return_when=asyncio.FIRST_COMPLETED
    )
    api.at_ease()
    at_once()
    hit.cancel()
    return await over == -signal.SIGKILL
