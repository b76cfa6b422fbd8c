"""Sinks that take the same events under the same limits: one cut, bodies in common, and lanes in step."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingestd.core import shared_body
from ingestd.core.chunk import Batch
from ingestd.delivery.lane import Lane
from tests.integration.intake.replay_support import Place, SmallPlace, assert_once, key_of, sink, write
from tests.integration.intake.support import event
from tests.receiver import Action, Hang, Receiver, Reply, Request

pytestmark = pytest.mark.anyio


def array(receiver: Receiver, **other: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": receiver.url, "body": "array", "max_events": 10, **other}


def cuts(receiver: Receiver) -> list[list[str]]:
    """The events of each request, by their ids; in the order of these, for lanes send several at once."""
    found = []
    for request in receiver.requests:
        body = msgspec.json.decode(request.body)
        found.append([one["interactionId"] for one in (body["events"] if isinstance(body, dict) else body)])
    return sorted(found, key=lambda ids: int(ids[0].removeprefix("i-")))


def ids(numbers: Sequence[int]) -> list[str]:
    return [f"i-{number}" for number in numbers]


async def test_they_get_the_same_batches_and_one_of_them_a_part_of_the_others_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = []

    class Watched(shared_body.SharedBodies):
        def take(self, *given: Any) -> Any:
            views.append(isinstance((found := super().take(*given))[0], memoryview))
            return found

    monkeypatch.setattr("ingestd.intake.common_batches.SharedBodies", Watched)
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(95)])
    async with Receiver() as api, Receiver() as hook:
        place = SmallPlace(tmp_path / "state", {"api": sink(api), "hook": array(hook)})
        report = await place.run(source)
        assert report["exit_code"] == 0
        assert_once(api, range(95))
        assert cuts(api) == cuts(hook)
        assert [one for cut in cuts(hook) for one in cut] == ids(range(95))
        assert {request.headers["content-type"] for request in hook.requests} == {"application/json"}
    assert views.count(True) == len(hook.requests) == views.count(False)


async def test_a_limit_that_one_learns_is_its_own(tmp_path: Path) -> None:
    def at_most_four(request: Request) -> Action:
        return Reply(413) if len(msgspec.json.decode(request.body)) > 4 else Reply()

    source = write(tmp_path / "in.ndjson", [event(number) for number in range(1000)])
    async with Receiver() as api, Receiver(at_most_four) as hook:
        place = SmallPlace(tmp_path / "state", {"api": sink(api), "hook": array(hook)})
        report = await place.run(source)
        assert (report["exit_code"], report["delivered"]) == (0, 1000)
        assert_once(api, range(1000))
        taken = [cut for cut in cuts(hook) if len(cut) <= 4]
        assert [one for cut in taken for one in cut] == ids(range(1000))
        refused = [cut for cut in cuts(hook) if len(cut) > 4]
    assert len(refused) < 40, "what is cut later is cut for its limit"
    of_api = [len(cut) for cut in cuts(api)]
    assert max(of_api) == 10, "the other goes on with the batches that it may have"


async def test_after_a_crash_each_sends_again_what_it_had_on_its_way(tmp_path: Path) -> None:
    """The same bytes under the same key, of whichever had no answer."""
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(60)])
    action: list[Action] = [Hang()]
    async with Receiver() as api, Receiver(lambda _: action[0]) as hook:
        sinks = {"api": sink(api), "hook": array(hook)}
        place: Place = SmallPlace(tmp_path / "0", sinks)
        async with place.running(source) as running:
            await hook.until(lambda r: len(r.requests) == 2)
            place = await running.crash(tmp_path / "1")
        action[0] = Reply()
        report = await place.run(source)
        assert report["exit_code"] == 0
        assert_once(api, range(60))
        bodies = defaultdict(set)
        for request in hook.requests:
            bodies[key_of(request)].add(request.body)
        assert {len(one) for one in bodies.values()} == {1}
        (first, second), again = hook.requests[:2], hook.requests[2:]
        assert {key_of(first), key_of(second)} <= {key_of(request) for request in again}
        assert sorted(one for cut in cuts(hook) for one in cut) == sorted(
            [*ids(range(60)), *(one["interactionId"] for r in (first, second) for one in _events(r))]
        )


def _events(request: Request) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = msgspec.json.decode(request.body)
    return found


_TRIES = 8


async def test_a_lane_that_gets_on_does_not_fall_behind_though_its_answers_stop_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One waits for its first answers while the other goes on; when it gets on again it catches up. On a busy
    machine its answers may take longer than it is waited for: so it is tried again."""
    for number in range(_TRIES):
        with monkeypatch.context() as patches:
            before, at_the_end = await _lags(tmp_path, number, patches)
        assert before > 20 * 1500, "it did not wait for one that gives no answer"
        if at_the_end < before / 4:
            return
    raise AssertionError(f"it never caught up in {_TRIES} runs")


async def _lags(folder: Path, run: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """By how many bytes one lane is behind the other at most before it gets on, and at the end."""
    count = 1200
    source = write(folder / f"in-{run}.ndjson", [event(number) for number in range(count)])
    held, behind = asyncio.Event(), list[tuple[int, int]]()

    async def hold(_: Request) -> Action:
        await held.wait()
        return Reply()

    async with Receiver() as quick, Receiver(hold) as late:
        place = SmallPlace(folder / f"state-{run}", {"quick": sink(quick), "late": sink(late)})
        add = Lane.add

        def watched(lane: Lane, batches: Sequence[Batch]) -> None:
            add(lane, batches)
            one, other = running.replay.pipeline.runners
            behind.append((len(quick.requests), other.pending_bytes - one.pending_bytes))

        monkeypatch.setattr(Lane, "add", watched)
        async with place.running(source) as running:
            await quick.until(lambda r: len(r.requests) >= 40)
            held.set()
            await running.task
        assert_once(quick, range(count))
        assert_once(late, range(count))
    return max(lag for sent, lag in behind if sent <= 40), behind[-1][1]
