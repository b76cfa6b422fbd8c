"""Confirmation in a replay: what the API says later decides, and a run's end does not lose it."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ingestd.app.replay import run
from ingestd.app.replay_report import make_report
from tests.integration.intake.replay_support import Place, rows, sink, until
from tests.integration.intake.support import DEADLINE_S
from tests.machine import patience
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio

COUNT = 12
CONFIRM = {"timeout": 0.3, "initial_delay": 0.01, "requests_per_minute": 60_000}


class Published:
    """An API that takes CloudEvents and says of each what its ``standing`` is; None: it does not answer."""

    def __init__(self, standing: str | None) -> None:
        self.standing = standing
        self.receiver = Receiver(self._answer)

    def _answer(self, request: Request) -> Reply:
        if request.method == "POST":
            return Reply(202, body=b'{"id":"r-%s","status":"accepted"}' % request.json()["id"].encode())
        if self.standing is None:
            return Reply(503)
        return Reply(body=json.dumps({"status": self.standing}).encode())

    @property
    def posts(self) -> int:
        return sum(request.method == "POST" for request in self.receiver.requests)

    def sink(self, **confirm: Any) -> dict[str, Any]:
        url = self.receiver.url + "/events"
        return {"type": "cloudevents", "url": url, "confirm": CONFIRM | {"url": url + "/{id}"} | confirm}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.ndjson"
    path.write_text("\n".join(_cloudevent(number) for number in range(COUNT)))
    return path


def _cloudevent(number: int) -> str:
    return json.dumps(
        {"specversion": "1.0", "id": f"e{number}", "source": "s", "type": "t", "data": {"n": number}}
    )


def reasons(place: Place) -> Sequence[Any]:
    return rows(place.directory, "SELECT sink, reason, count(*) FROM letters GROUP BY 1, 2")


SCHEMA = {"schema": {"name": "cloudevent"}}


@pytest.mark.parametrize(("standing", "reason"), [("failed", "failed"), ("accepted", "unconfirmed")])
async def test_what_is_not_confirmed_becomes_dead_letters_of_its_sink(
    tmp_path: Path, source: Path, standing: str, reason: str
) -> None:
    api = Published(standing)
    async with api.receiver, Receiver() as other:
        plain = {"type": "webhook", "url": other.url, "body": "array"}
        place = Place(tmp_path / "state", {"asked": api.sink(), "plain": plain}, SCHEMA)
        report = await place.run(source)
    assert report["exit_code"] == 3
    asked = report["sinks"]["asked"]
    assert (asked["routed"], asked["dead_lettered"], asked["confirming"]) == (COUNT, COUNT, 0)
    assert report["sinks"]["plain"]["delivered"] == COUNT
    assert reasons(place) == [("asked", reason, COUNT)]
    assert rows(place.directory, "SELECT * FROM confirmations") == []


async def test_a_replay_does_not_wait_for_ever_for_an_api_that_does_not_say_what_became_of_its_events(
    tmp_path: Path, source: Path
) -> None:
    api = Published(None)
    async with api.receiver:
        place = Place(tmp_path / "state", {"asked": api.sink()}, SCHEMA)
        async with place.opened(source) as replay, asyncio.timeout(DEADLINE_S):
            await run(replay, warn=place.warnings.append)
        report = make_report(replay)
        assert (report["exit_code"], report["sinks"]["asked"]["confirming"]) == (3, COUNT)
        assert report["in_flight"] == COUNT
        api.standing = "delivered"
        report = await place.run(source)
        assert (report["exit_code"], report["sinks"]["asked"]["delivered"]) == (0, COUNT)
        assert api.posts == COUNT


@pytest.mark.parametrize("several", [False, True])
async def test_an_interrupt_while_waiting_leaves_them_pending_for_the_next_run(
    tmp_path: Path, source: Path, several: bool
) -> None:
    api = Published("accepted")
    async with api.receiver, Receiver() as other:
        sinks: dict[str, Any] = {"asked": api.sink(timeout=patience(60.0))}
        if several:
            sinks["plain"] = sink(other)
        place = Place(tmp_path / "state", sinks, SCHEMA)
        async with place.opened(source) as replay:
            task = asyncio.ensure_future(run(replay, warn=place.warnings.append))
            runner = replay.pipeline.runners[0]
            await until(lambda: runner.ledger.confirming == COUNT)
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.wait_for(task, DEADLINE_S)
            report = make_report(replay)
        assert (report["exit_code"], report["sinks"]["asked"]["confirming"]) == (130, COUNT)
        assert rows(place.directory, "SELECT count(*) FROM confirmations") == [(COUNT,)]

        api.standing = "delivered"
        posts = api.posts
        report = await place.run(source)
        assert report["exit_code"] == 0
        assert report["sinks"]["asked"]["delivered"] == COUNT
        assert api.posts == posts == COUNT
    assert rows(place.directory, "SELECT * FROM confirmations") == []
    assert reasons(place) == []
