"""A process that accepts events and brings them into a lake until it is killed. For test_lake_kill.py.

    python -m tests.process.lake.writer_process STATE LAKE FIRST_EVENT

Writes the number of each event that is on disk, a line each; ends by itself, drained, when its standard
input does.
"""

import asyncio
import sys
from pathlib import Path

from tests.integration.lake.support import Store, add, event, lake_in, opened


async def main(state: Path, root: Path, number: int) -> None:
    async with (
        opened(state) as database,
        lake_in(database, Store(root), file_bytes=400, file_age_s=0.002) as lake,
    ):
        running = asyncio.create_task(lake.run())
        ending = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        while not ending.done():
            events = [event(n, kind=f"t{n % 3}") for n in range(number, number + 5)]
            await add(database, lake, events)
            print("\n".join(str(n) for n in range(number, number + 5)), flush=True)
            number += 5
            await asyncio.sleep(0.0005)
        running.cancel()
        await asyncio.wait([running])
        left = await lake.drain(10)
        assert left == (0, 0, 0), left


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
