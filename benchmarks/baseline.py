"""The floor of the machine: split lines, batch to 500 kB, send. No checks, no deduplication, no durability.

``benchmarks.run`` prints all else as a ratio to this, measured in the same run. Prints its counts as JSON.
"""

import argparse
import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import uvloop

MAX_BATCH_BYTES = 500_000
MAX_IN_FLIGHT = 5
_READ_BYTES = 256 * 1024
_HEAD, _TAIL = b'{"events":[', b"]}"


def read_batches(path: Path) -> Iterator[list[bytes]]:
    """The lines of the file in groups whose request body is at most ``MAX_BATCH_BYTES``."""
    batch: list[bytes] = []
    size = len(_HEAD) + len(_TAIL)
    tail = b""
    with path.open("rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            lines = (tail + block).split(b"\n")
            tail = lines.pop()
            for line in lines:
                line_size = len(line) + 1
                if size + line_size > MAX_BATCH_BYTES:
                    yield batch
                    batch, size = [], len(_HEAD) + len(_TAIL)
                batch.append(line)
                size += line_size
    if tail:
        batch.append(tail)
    if batch:
        yield batch


async def send_all(path: Path, url: str) -> dict[str, int]:
    counts = {"events": 0, "requests": 0, "bytes": 0}
    slots = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def send(batch: list[bytes]) -> None:
        try:
            body = _HEAD + b",".join(batch) + _TAIL
            number = str(uuid.uuid4())
            headers = {
                "Content-Type": "application/json",
                "Idempotency-Key": number,
                "X-Request-Id": number,
            }
            async with client.post(url, data=body, headers=headers) as response:
                await response.read()
                response.raise_for_status()
            counts["events"] += len(batch)
            counts["requests"] += 1
            counts["bytes"] += len(body)
        finally:
            slots.release()

    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
        for batch in read_batches(path):
            await slots.acquire()
            group.create_task(send(batch))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("url")
    chosen = parser.parse_args()
    print(json.dumps(uvloop.run(send_all(chosen.file, chosen.url))))


if __name__ == "__main__":
    main()
