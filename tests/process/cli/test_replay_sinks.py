"""``ingestd replay`` as a process, into the sinks of a configuration file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.event_api import INVALID, EventApi, event, events, write
from tests.process.cli.support import Place

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
