"""`ingestd run` with the memory that deploy/ gives it: whatever one request is made of, it is answered."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.effort import FUZZ
from tests.event_api import EventApi
from tests.integration.httpd.wire_client import Answer
from tests.integration.intake.support import event
from tests.machine import patience
from tests.process.cli.hostile import BODIES, QUICK, Body
from tests.process.cli.run_support import Serving, producer, serve, told
from tests.process.cli.support import Place

pytestmark = [pytest.mark.anyio]

AT_ONCE = 4
MOST_BYTES = 350_000_000
MOST_ANSWER_BYTES = 300_000
WORST = ("unknown members", "bomb of lists, zstd")
NAMES: Sequence[str] = list(BODIES) if FUZZ else QUICK


async def send(port: int, body: Body) -> Answer:
    async with producer(port) as one:
        one._fields = f"Content-Encoding: {body.coding}\r\n".encode() if body.coding else b""
        one.send(body.data, kind=body.kind.encode())
        return await one.client.answer()


def peak_bytes(serving: Serving) -> int:
    lines = Path(f"/proc/{serving.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


async def test_requests_that_cost_most_do_not_end_the_service_or_take_its_memory(place: Place) -> None:
    await _answered(place, WORST)


@pytest.mark.slow(
    "tests/process/cli/test_run_hostile.py::test_requests_that_cost_most_do_not_end_the_service_or_take_its_memory",
    "tests/integration/sources/http/test_hostile_bodies.py::test_every_body_is_answered_in_bounded_memory_and_time",
)
async def test_no_request_ends_the_service_or_takes_its_memory(place: Place) -> None:
    await _answered(place, NAMES)


async def _answered(place: Place, names: Sequence[str]) -> None:
    async with EventApi() as api, serve(place, api) as serving:
        for number, name in enumerate(names):
            body = BODIES[name]()
            async with asyncio.timeout(patience(60)):
                answers = await asyncio.gather(*(send(serving.ingest_port, body) for _ in range(AT_ONCE)))
                honest = await send(serving.ingest_port, Body(202, event(1_000_000 + number)))
            assert {answer.status for answer in answers} == {body.status}, (name, answers[0])
            assert max(len(answer.body) for answer in answers) < MOST_ANSWER_BYTES, name
            assert told(honest)["accepted"] == 1, name
            assert peak_bytes(serving) < MOST_BYTES, name
        await serving.until_empty(timeout_s=patience(60))
        await serving.stop()
