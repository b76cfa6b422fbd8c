"""``ingestd replay`` as a process, into the sinks of a configuration file."""

import asyncio
import contextlib
import json
import random
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.effort import seeds
from tests.event_api import INVALID, EventApi, event, events, once_each, write
from tests.process.cli.support import Place
from tests.receiver import Action, Cut, Reply, Request

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"
QUEUE = {"eventType": [{"suffix": ".queue"}]}
CALLS = {"eventType": [{"suffix": ".call"}, {"suffix": ".queue"}]}


def configure(place: Place, sinks: Mapping[str, Mapping[str, Any]]) -> Path:
    """A configuration file with these sinks, each an event API; patterns are given as JSON."""
    lines = [
        "[delivery]",
        'backoff_base = "10ms"',
        'backoff_cap = "50ms"',
        'startup_timeout = "200ms"',
        "min_retries_per_second = 1000",
    ]
    for name, section in sinks.items():
        lines += [f"[sinks.{name}]", 'type = "ingest_api"']
        values = {key: json.dumps(v) if isinstance(v, dict) else v for key, v in section.items()}
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    path = place / "ingestd.toml"
    path.write_text("\n".join(lines))
    return path


def words(place: Place, source: object, *more: object) -> list[object]:
    report = ("--report", place.report_file, "--state-dir", place.state)
    return ["replay", source, "--config", place / "ingestd.toml", *report, *more]


def faulty(rng: random.Random) -> EventApi:
    async def answer(_: Request) -> Action:
        await asyncio.sleep(rng.uniform(0.002, 0.01))
        actions: list[Action] = [Reply(), Reply(), Reply(), Reply(503), Cut("before_headers"), Cut("rst")]
        return rng.choice(actions)

    return EventApi(answer)


def assert_balanced(report: Mapping[str, Any]) -> None:
    ends = ("delivered", "duplicate", "rejected", "dead_lettered", "unmatched", "in_flight")
    assert report["accepted"] == sum(report[name] for name in ends), report
    for name, sink in report["sinks"].items():
        assert sink["routed"] == sink["delivered"] + sink["dead_lettered"] + sink["in_flight"], name


@pytest.mark.parametrize("seed", seeds(1, 10))
async def test_every_sink_gets_its_events_once_whatever_is_killed_when(place: Place, seed: int) -> None:
    rng = random.Random(seed)
    kinds = ("queue", "call", "other")
    lines = {
        kind: [event(n, kind=kind, note="n" * 400) for n in range(i, 1500, 3)] for i, kind in enumerate(kinds)
    }
    mixed = [one for some in lines.values() for one in some]
    rng.shuffle(mixed)
    copies = [one.replace(b"nnn", b"mmm") for one in mixed[:30]]
    source = write(place / "in.ndjson", [*mixed, *copies, INVALID])
    async with faulty(rng) as queue, faulty(rng) as calls:
        some = {"max_events": 20}
        configure(
            place,
            {
                "queue": {"url": queue.url, "when": QUEUE, **some},
                "calls": {"url": calls.url, "when": CALLS, **some},
            },
        )
        for _ in range(2):
            enough = len(calls.requests) + rng.randrange(2, 25)
            async with place.start(*words(place, source, "--quiet")) as running:
                await calls.until(lambda api, n=enough: len(api.requests) >= n)  # type: ignore[misc]
                assert (await running.kill()).code == -9
        done = await place.run(*words(place, source, "--quiet"))
        assert done.code in (0, 3), done  # one is not valid: told by the life that came upon it
        found = [once_each(api.batches) for api in (queue, calls)]
    queued, called = (sorted(one for batch in batches.values() for one in batch) for batches in found)
    assert queued == sorted(lines["queue"])
    assert called == sorted([*lines["queue"], *lines["call"]])
    report = place.report
    assert_balanced(report)
    assert report["in_flight"] == 0
    assert report["rejected"] <= 1
    assert report["duplicate"] <= 30
    assert len(place.letters()) == 1
    with contextlib.closing(sqlite3.connect(place.state / "state.db")) as connection:
        left = connection.execute("SELECT (SELECT count(*) FROM batches), position FROM sources").fetchall()
    assert left == [(0, source.stat().st_size)], "nothing is left for another run"


async def test_a_sink_that_is_down_is_named_and_gets_the_rest_in_the_next_run(place: Place) -> None:
    lines = events(100)
    source = write(place / "in.ndjson", lines)
    async with EventApi() as well, EventApi() as late:
        configure(place, {"well": {"url": well.url}, "late": {"url": NOWHERE}})
        done = await place.run(*words(place, source))
        assert done.code == 4, done
        assert "sink late: " in done.said[-1]
        assert any("late" in line and "others go on" in line for line in done.said)
        assert sorted(well.events) == lines

        configure(place, {"well": {"url": well.url}, "late": {"url": late.url}})
        done = await place.run(*words(place, source))
        assert done.code == 0, done
        assert sorted(late.events) == sorted(well.events) == lines


async def test_dead_letters_of_one_sink_are_sent_to_it_alone(place: Place) -> None:
    """Of standard input, which cannot be read again; and one that is corrected goes to all that want it."""
    lines = events(20)
    async with EventApi() as well, EventApi() as late:
        configure(place, {"well": {"url": well.url}, "late": {"url": NOWHERE}})
        done = await place.run(*words(place, "-"), given=b"\n".join([*lines, INVALID]))
        assert done.code == 4, done
        kinds = {(letter["sink"], letter["reason"]) for letter in place.letters()}
        assert kinds == {("", "invalid"), ("late", "interrupted")}
        assert sorted(well.events) == lines

        config = configure(place, {"well": {"url": well.url}, "late": {"url": late.url, "when": QUEUE}})
        done = await place.run(*place.dlq("retry", "--reason", "interrupted", "--config", config))
        assert done.code == 0, done
        assert sorted(late.events) == sorted(well.events) == lines

        (rejected,) = [letter["id"] for letter in place.letters() if not letter["sink"]]
        (place / "right.json").write_bytes(event(99))
        done = await place.run(
            *place.dlq("retry", rejected, "--edit", place / "right.json", "--config", config)
        )
        assert done.code == 0, done
        assert late.events[-1] == well.events[-1] == event(99)
        assert len(late.events) == len(well.events) == len(lines) + 1
    assert {letter["state"] for letter in place.letters()} == {"delivered"}
