"""``ingestd run`` as a process with several sinks: one that confirms, one with a pattern, and a lake."""

from pathlib import Path

import pytest

from ingestd.sandbox.faults import Match, Rule, ScriptedAnswer
from ingestd.sandbox.remote_apis import EVENT_BRIDGE_PATH
from ingestd.sandbox.server import Running, Sandbox
from tests.event_api import event
from tests.integration.lake.support import events_in
from tests.process.cli.run_support import Serving, post, serve
from tests.process.cli.sink_support import assert_once, options
from tests.process.cli.support import Place

pytestmark = pytest.mark.anyio

HOOK = "/hooks/answers"
BUSY = ScriptedAnswer(503, {"Retry-After": "0"})
TROUBLE = [
    Rule(Match(path, nth), take=lost, cut=lost, answer=None if lost else BUSY, delay="5ms")
    for path in (EVENT_BRIDGE_PATH, HOOK)
    for nth in range(2, 300, 4)
    for lost in (nth % 8 == 2,)
]
"""Of both sinks' requests: every eighth is taken and its answer is lost, every eighth is put off."""
SINKS = """
[sinks.bridge]
type = "cloudevents"
url = "{url}/api/v2/eventbridge/events"
wrap = {{type = "$.eventType", source = "pbx", id = "$.interactionId"}}
auth = {{type = "oauth2", token_url = "{token_url}", client_id = "sandbox", client_secret = "sandbox"}}
confirm = {{url = "{url}{path}/{{id}}", initial_delay = "50ms", requests_per_minute = 9999}}
max_in_flight = 8

[sinks.answers]
type = "webhook"
url = "{url}/hooks/answers"
body = "array"
max_events = 5
when = {{eventType = [{{suffix = ".answer"}}]}}

[sinks.files]
type = "lake"
url = "{lake}"
file_age = "100ms"

[delivery]
min_retries_per_second = 100
"""


def batch(number: int) -> list[bytes]:
    first = 40 * number
    return [event(n, kind="queue" if n % 4 else "answer") for n in range(first, first + 40)]


def configure(place: Place, sandbox: Running) -> Path:
    path = place / "ingestd.toml"
    given = {"path": EVENT_BRIDGE_PATH, "lake": place / "lake"}
    path.write_text(SINKS.format(url=sandbox.url, token_url=sandbox.token_url, **given))
    return path


async def give(service: Serving, number: int) -> list[bytes]:
    events = batch(number)
    answer = await post(service.ingest_port, events)
    assert answer.status == 202, answer
    return events


async def settled(service: Serving) -> None:
    """No sink has anything left to do."""
    await service.until_empty()
    await service.until(
        lambda told: (
            not any(lane["ledger"]["in_flight"] for lane in told["lanes"])
            and not any(lake["waiting_events"] for lake in told["lakes"])
        )
    )


async def test_through_a_drain_and_a_kill_every_sink_gets_each_of_its_events_once(place: Place) -> None:
    given: list[bytes] = []
    async with Sandbox(options("status-fail:0.1", rules=TROUBLE)).serve() as sandbox:
        words = ("--config", configure(place, sandbox))
        async with serve(place, sandbox.url, *words) as service:
            given += await give(service, 0)
            await service.stop()
        async with serve(place, sandbox.url, *words) as service:
            given += await give(service, 1)
            await service.kill()
        async with serve(place, sandbox.url, *words) as service:
            given += await give(service, 2)
            await settled(service)
            await check_what_is_told(service)
            await service.stop()
        stats = sandbox.sandbox.stats()
        hooked = sandbox.sandbox.kept(HOOK)
    assert_once(stats.paths[EVENT_BRIDGE_PATH], 120)
    assert_once(stats.paths[HOOK], 30)
    assert sorted(hooked) == sorted(given[::4])
    assert sorted(events_in(place / "lake")) == sorted(given)
    letters = place.letters()
    assert {(letter["sink"], letter["reason"]) for letter in letters} == {("bridge", "failed")}
    assert len(letters) == stats.faults["status-fail"]


async def check_what_is_told(service: Serving) -> None:
    """The metrics and the status of a life in which all is settled."""
    metrics, told = await service.metrics(), await service.status()
    assert [(lane["name"], lane["type"], lane["circuit"]) for lane in told["lanes"]] == [
        ("bridge", "cloudevents", "closed"),
        ("answers", "webhook", "closed"),
    ]
    assert [(lake["name"], lake["waiting_events"], lake["trouble"]) for lake in told["lakes"]] == [
        ("files", 0, None)
    ]
    for lane in told["lanes"]:
        ledger = lane["ledger"]
        assert ledger["routed"] == ledger["delivered"] + ledger["dead_lettered"], ledger
        sink = ("sink", lane["name"])
        for outcome in ("delivered", "dead_lettered"):
            labels = frozenset({sink, ("outcome", outcome)})
            assert metrics["ingestd_sink_events_total", labels] == ledger[outcome]
        for name in ("ingestd_sink_in_flight_events", "ingestd_confirming_events"):
            assert metrics[name, frozenset({sink})] == 0
        assert metrics["ingestd_routed_events_total", frozenset({sink})] == ledger["routed"]
        assert metrics["ingestd_sink_behind_chunks", frozenset({sink})] == 0
    assert metrics["ingestd_lake_files_total", frozenset({("sink", "files")})] > 0
