"""The harness of ``make soak``, for a few lives in each shape; and that it would notice."""

import asyncio
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.each import each
from tests.machine import patience_of_test
from tests.process.soak import __main__ as soak
from tests.process.soak import replay
from tests.process.soak.api import SinkApi
from tests.process.soak.events import Maker, read
from tests.process.soak.explain import explain
from tests.process.soak.judge import Verdict, balance, judge
from tests.process.soak.rounds import SHAPES, play

EVENTS = Maker("e", random.Random(1), groups=1, ill=0).many(4)
LEDGER = {"accepted": 4, "delivered": 4, "duplicate": 0, "rejected": 0, "dead_lettered": 0, "in_flight": 0}


@pytest.mark.anyio
@pytest.mark.timeout(patience_of_test(180))
@pytest.mark.slow(
    "tests/process/soak/test_soak.py::test_the_judge_tells_what_is_lost_doubled_and_out_of_order",
    "tests/process/cli/test_run_kill.py::test_what_was_answered_202_arrives_once_whatever_is_killed_when",
    "tests/process/cli/test_run_sinks.py::test_through_a_drain_and_a_kill_every_sink_gets_each_of_its_events_once",
    "tests/process/cli/test_kill.py::test_every_event_arrives_whatever_is_killed_when",
    "tests/process/sources/nats/test_kill.py::test_every_message_arrives_once_and_in_order_whoever_is_killed",
)
@each("shape", SHAPES)
async def test_what_was_promised_is_kept_through_a_few_kills(tmp_path: Path, shape: str) -> None:
    verdict = await play(tmp_path, shape, 7, lives=2)
    print(verdict)
    assert verdict.good, verdict
    assert verdict.acknowledged > 0
    assert shape not in replay.SHAPES or verdict.acknowledged == 3 * replay.LINES + 3 * (replay.LINES // 10)


@pytest.mark.parametrize(
    ("words", "found", "code", "rounds"),
    [
        ("--rounds 3", Verdict(lives=2, kills=1), 0, 3),
        ("--seconds 0.2", Verdict(lives=2, kills=1), 0, None),
        ("--seconds 0", Verdict(lives=2, kills=1), 1, 0),
        ("--rounds 2", Verdict(lives=2, lost=1), 1, 2),
        ("--rounds 1", Verdict(lives=2, doubled=1), 1, 1),
        ("--rounds 1", Verdict(lives=2, out_of_order=1), 1, 1),
        ("--rounds 1", Verdict(lives=2, problems=["a ledger"]), 1, 1),
    ],
)
def test_the_command_plays_as_many_rounds_as_asked_for_and_ends_with_1_if_one_is_not_good(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    found: Verdict,
    code: int,
    rounds: int | None,
) -> None:
    seeds: list[int] = []

    async def played(directory: Path, shape: str, seed: int, *, lives: int) -> Verdict:
        await asyncio.sleep(0.01)
        seeds.append(seed)
        return found

    monkeypatch.setattr(soak, "play", played)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert soak.main(["--seed", "5", *words.split()]) == code
    assert seeds == list(range(5, 5 + (len(seeds) if rounds is None else rounds)))
    assert rounds is not None or seeds
    assert ("NOT GOOD" in capsys.readouterr().out) == (code == 1)


def judged(*requests: tuple[str, list[int]], letters: list[dict[str, Any]] | None = None) -> Verdict:
    """Of an API that took these events of EVENTS under these keys."""
    sink = SinkApi()
    for name, numbers in requests:
        sink.take(name, [read(EVENTS[number]) for number in numbers])
    return judge(EVENTS, {"s": sink}, letters or [], ordered=["s"], verdict=Verdict())


def test_the_judge_tells_what_is_lost_doubled_and_out_of_order() -> None:
    assert judged(("a", [0, 1]), ("b", [2, 3])).good
    assert judged(("a", [0, 1]), ("b", [3])).lost == 1
    assert judged(("a", [0, 1]), ("b", [1, 2, 3])).doubled == 1
    assert judged(("a", [0, 2]), ("b", [1, 3])).out_of_order == 1
    healthy = [{"sink": "s", "payload": EVENTS[3]}]
    assert "nothing is wrong with it" in str(judged(("a", [0, 1, 2]), letters=healthy))
    another = [{"sink": "t", "payload": EVENTS[3]}]
    assert judged(("a", [0, 1, 2]), letters=another).lost == 1


def test_what_came_out_of_order_is_told_with_its_requests_and_the_kills_between(tmp_path: Path) -> None:
    sink = SinkApi()
    lines = [
        {
            "at": 1.0,
            "sink": "s",
            "member": "guest",
            "key": "a",
            "outcome": "not taken, 503",
            "events": ["e.0.1"],
        },
        {"at": 1.5, "sink": "", "member": "guest", "key": "", "outcome": "KILL", "events": []},
        {"at": 2.0, "sink": "s", "member": "", "key": "b", "outcome": "200", "events": ["e.0.0", "e.0.2"]},
        {"at": 3.0, "sink": "s", "member": "", "key": "c", "outcome": "200", "events": ["e.0.1", "e.0.3"]},
        {"at": 4.0, "sink": "s", "member": "", "key": "d", "outcome": "200", "events": ["e.0.9"]},
    ]
    requests = tmp_path / "requests.ndjson"
    requests.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for name, numbers in (("b", [0, 2]), ("c", [1, 3])):
        sink.take(name, [read(EVENTS[number]) for number in numbers])
    assert explain(requests, sink, {"e.0.2": "offset 2", "e.0.1": "offset 1"}.__getitem__) == [
        "e.0.2 came first: offset 2",
        "e.0.1 was late: offset 1",
        "  1.000 guest, key a, 1 events with e.0.1: not taken, 503",
        "  1.500 guest was killed",
        "  2.000 first member, key b, 2 events with e.0.2: 200",
        "  3.000 first member, key c, 2 events with e.0.1: 200",
    ]
    assert explain(requests, SinkApi()) == []


@each("wrong", [{"delivered": 3}, {"delivered": 3, "in_flight": 1}])
def test_the_judge_tells_a_ledger_that_does_not_balance_or_has_no_end(wrong: dict[str, int]) -> None:
    verdict = Verdict()
    balance(LEDGER, verdict)
    assert verdict.good
    balance(LEDGER | wrong, verdict)
    assert not verdict.good
