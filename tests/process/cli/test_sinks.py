"""Each type of sink through the whole pipeline, to the sandbox and its faults."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from ingestd.core.errors import UserError
from ingestd.sandbox.faults import Match, Rule
from ingestd.sandbox.remote_apis import EVENT_BRIDGE_PATH
from ingestd.sandbox.server import INGEST_PATH, Sandbox
from ingestd.sandbox.tokens import RateLimit
from ingestd.schemas import genesys_models
from tests import event_api
from tests.process.cli.sink_support import (
    answered,
    any_json,
    assert_once,
    cloudevent,
    journey,
    login,
    options,
    presence,
    replay,
    routing_status,
    uuid,
)
from tests.process.cli.support import Place

pytestmark = pytest.mark.anyio

CONVERSATIONS, PRESENCE, ROUTING_STATUS, _ = map(genesys_models.event_api, genesys_models.EVENT_APIS)
JOURNEY = "/api/v2/journey/externalevents/configurations/conf-1/events"
NEVER = "this event is never taken"
REFUSALS = ("event-retry:0.2", "event-dead:0.2")
TROUBLE = ("429:0.1:0", "503:0.1:0", "500:0.05", "cut-before:0.05")
LOST_ANSWER = ("cut:0.1",)
"""The request was taken, and its answer is lost: only an API that knows the key, or the id, can tell."""


@dataclass(frozen=True)
class Case:
    sink: dict[str, Any]
    path: str
    make: Callable[[int], bytes]
    schema: str = "any"
    knows_again: bool = True
    options: dict[str, Any] = field(default_factory=dict)


CLOUDEVENTS = {"type": "cloudevents"}
GENESYS = {"type": "genesys_events", "requests_per_minute": 0}
CASES = {
    "ingest_api": Case({"type": "ingest_api"}, INGEST_PATH, event_api.event, "interaction"),
    "structured": Case(CLOUDEVENTS, EVENT_BRIDGE_PATH, cloudevent, "cloudevent"),
    "binary": Case({**CLOUDEVENTS, "mode": "binary"}, EVENT_BRIDGE_PATH, cloudevent, "cloudevent"),
    "batch": Case({**CLOUDEVENTS, "mode": "batch"}, EVENT_BRIDGE_PATH, cloudevent, "cloudevent"),
    "wrapped": Case(
        {**CLOUDEVENTS, "wrap": {"type": "$.eventType", "source": "pbx", "id": "$.interactionId"}},
        EVENT_BRIDGE_PATH,
        event_api.event,
        "interaction",
    ),
    "conversations": Case(
        GENESYS,
        CONVERSATIONS.path,
        lambda number: answered(number, conversation=number % 9),
        options={"communication_states": False},
    ),
    "presence": Case({**GENESYS, "api": "presence"}, PRESENCE.path, presence),
    "routingstatus": Case({**GENESYS, "api": "routingstatus"}, ROUTING_STATUS.path, routing_status),
    "journey": Case(
        {"type": "journey_events", "configuration_id": "conf-1", "requests_per_minute": 0},
        JOURNEY,
        journey,
        knows_again=False,
    ),
}


def schema_of(case: Case, place: Place) -> dict[str, str]:
    return any_json(place) if case.schema == "any" else {"name": case.schema}


@pytest.mark.parametrize("name", CASES)
async def test_every_event_arrives_once_or_is_a_dead_letter_in_the_words_of_its_api(
    place: Place, name: str
) -> None:
    case = CASES[name]
    faults = (*REFUSALS, *TROUBLE, *(LOST_ANSWER if case.knows_again else ()))
    events = [case.make(number) for number in range(60)]
    async with Sandbox(options(*faults, **case.options)).serve() as sandbox:
        done = await replay(
            place, events, {"one": case.sink}, to=login(sandbox), schema=schema_of(case, place)
        )
        stats = sandbox.sandbox.stats()
    assert_once(stats.paths[case.path], len(events) - len(done.letters))
    assert done.report["delivered"] == stats.paths[case.path].distinct
    assert 0 < len(done.letters) < 30
    assert {(letter["sink"], letter["reason"]) for letter in done.letters} == {("one", "refused")}
    assert all(NEVER in letter["detail"] for letter in done.letters)
    assert set(done.refused) < set(events)
    assert stats.faults.keys() >= {"event-retry", "event-dead"}
    assert len(stats.faults) > 2  # requests failed as well
    assert done.report["exit_code"] == 3


async def test_order_of_a_conversation_holds_with_eight_requests_at_once_whatever_fails(place: Place) -> None:
    case = CASES["conversations"]
    events = [answered(number, conversation=number % 50) for number in range(300)]
    faults = ("event-retry:0.3", "slow:0.3:10ms", "500:0.03", "429:0.03:0", "cut-before:0.03", "cut:0.05")
    async with Sandbox(options(*faults, **case.options)).serve() as sandbox:
        sink = {**GENESYS, "max_in_flight": 8}
        done = await replay(place, events, {"one": sink}, to=login(sandbox), schema=any_json(place))
        stats = sandbox.sandbox.stats()
    assert_once(stats.paths[case.path], 300)
    assert stats.paths[case.path].out_of_order == 0
    assert stats.max_concurrent > 2
    assert done.letters == []


async def test_interaction_events_are_mapped_and_what_has_no_mapping_is_a_dead_letter(place: Place) -> None:
    steps = ("QUEUE", "ANSWER", "REQUEUE", "TRANSFER", "DISCONNECT")
    events = [
        interaction(action, f"i-{number}", at=position)
        for number in range(20)
        for position, action in enumerate(steps)
    ]
    events.append(interaction("DISCONNECT", "never-queued", at=3))
    sink = {**GENESYS, "map": "interaction", "source_id": "pbx", "max_in_flight": 8}
    async with Sandbox(options(*TROUBLE, *LOST_ANSWER)).serve() as sandbox:
        done = await replay(place, events, {"one": sink}, to=login(sandbox))
        stats = sandbox.sandbox.stats().paths[CONVERSATIONS.path]
    (letter,) = done.letters
    assert letter["payload"] == events[-1]
    assert "never established" in letter["detail"]
    assert (stats.duplicates, stats.out_of_order) == (0, 0)
    assert done.report["delivered"] == 100
    assert stats.events == 20 * (1 + 1 + 4 + 2 + 1)


def interaction(action: str, name: str, *, at: int) -> bytes:
    return json.dumps(
        {
            "eventType": "routing.interaction.any",
            "eventTime": f"2026-01-01T09:00:0{at}Z",
            "interactionId": name,
            "routingMetadata": {"queueId": uuid(9, 1), "skill": "s", "actionType": action},
            "attributes": {},
            "schemaVersion": 1,
        }
    ).encode()


# sizes and rates


@pytest.mark.parametrize("name", ["ingest_api", "batch", "conversations", "journey"])
@pytest.mark.parametrize("limit", [4000, 1500])
async def test_no_request_is_larger_than_set_and_where_less_is_taken_batches_are_parted(
    place: Place, name: str, limit: int
) -> None:
    case = CASES[name]
    given = {"max_body_bytes": limit, "platform_body_bytes": limit, **case.options}
    events = [case.make(number) for number in range(60)]
    async with Sandbox(options(**given)).serve() as sandbox:
        sink = {**case.sink, "max_bytes": 4000, "max_events": 1000 if name != "conversations" else 100}
        done = await replay(place, events, {"one": sink}, to=login(sandbox), schema=schema_of(case, place))
        stats = sandbox.sandbox.stats()
    assert_once(stats.paths[case.path], 60)
    assert stats.largest_body_bytes <= 4000
    assert ("413" in stats.by_status) is (limit < 4000)
    told = [int(warning.split()[-2]) for warning in done.warnings]
    assert told == sorted(set(told), reverse=True)  # each smaller limit once
    assert bool(told) is (limit < 4000)
    assert done.letters == []


async def test_the_rate_that_an_api_tells_in_its_headers_is_kept(place: Place) -> None:
    events = [cloudevent(number) for number in range(30)]
    async with Sandbox(options(rate_limit=RateLimit(20, 1.0))).serve() as sandbox:
        sinks = {"one": {**CLOUDEVENTS, "max_in_flight": 8}}
        await replay(place, events, sinks, to=login(sandbox), schema={"name": "cloudevent"})
        stats = sandbox.sandbox.stats().paths[EVENT_BRIDGE_PATH]
    assert_once(stats, 30)
    assert stats.by_status == {"202": 30}


# confirmation

CONFIRM = {"url": "auto", "initial_delay": 0.05, "requests_per_minute": 100_000, "timeout": 0.5}


async def test_what_the_api_accepts_and_then_fails_or_forgets_is_a_dead_letter(place: Place) -> None:
    events = [cloudevent(number) for number in range(60)]
    faults = ("status-fail:0.2", "status-stuck:0.1", "status-hidden:0.2:50ms")
    rules = [Rule(Match(EVENT_BRIDGE_PATH, nth), take=True, cut=True) for nth in range(2, 60, 9)]
    async with Sandbox(options(*faults, rules=rules)).serve() as sandbox:
        sinks = {"one": {**CLOUDEVENTS, "confirm": CONFIRM}}
        done = await replay(place, events, sinks, to=login(sandbox), schema={"name": "cloudevent"})
        stats = sandbox.sandbox.stats()
    assert_once(stats.paths[EVENT_BRIDGE_PATH], 60)
    assert done.report["delivered"] == 60 - len(done.letters)
    failed = [letter for letter in done.letters if letter["reason"] == "failed"]
    forgotten = [letter for letter in done.letters if letter["reason"] == "unconfirmed"]
    assert len(failed) + len(forgotten) == len(done.letters)
    assert 0 < len(failed) == stats.faults["status-fail"]
    assert 0 < len(forgotten) == stats.faults["status-stuck"]
    assert all("delivery.failed" in letter["detail"] for letter in failed)
    assert done.report["sinks"]["one"]["confirming"] == 0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("auto", "auto needs [api]"),
        ("x/{id}", "it must begin with https://"),
    ],
)
async def test_a_question_that_cannot_be_asked_is_told_at_the_start(
    place: Place, url: str, said: str
) -> None:
    sink = {**CLOUDEVENTS, "url": "http://127.0.0.1:1/", "confirm": {"url": url}}
    with pytest.raises(UserError, match=f"^{re.escape(f'sinks.one.confirm.url: {said}')}"):
        await replay(place, [], {"one": sink})


# several together


async def test_one_replay_feeds_every_kind_of_sink_and_each_gets_what_it_asked_for(place: Place) -> None:
    events = [
        interaction(action, f"i-{number}", at=position)
        for number in range(25)
        for position, action in enumerate(("QUEUE", "ANSWER", "DISCONNECT"))
    ]
    answers = [event for event in events if b'"ANSWER"' in event]
    faults = ("event-retry:0.1", "503:0.05:0", "500:0.05", "cut:0.05")
    async with Sandbox(options(*faults)).serve() as sandbox:
        sinks = {
            "ingest": {"type": "ingest_api"},
            "bridge": CASES["wrapped"].sink | {"wrap": {"type": "$.eventType", "source": "pbx"}},
            "genesys": {**GENESYS, "map": "interaction", "source_id": "pbx"},
            "answers": {
                "type": "webhook",
                "url": f"{sandbox.url}/hooks/answers",
                "body": "array",
                "when": {"routingMetadata": {"actionType": ["ANSWER"]}},
            },
            "lines": {"type": "webhook", "url": f"{sandbox.url}/hooks/lines", "body": "ndjson"},
        }
        done = await replay(place, events, sinks, to=login(sandbox))
        paths = sandbox.sandbox.stats().paths
        kept = sandbox.sandbox.kept
    for path in (INGEST_PATH, EVENT_BRIDGE_PATH, CONVERSATIONS.path, "/hooks/lines"):
        assert_once(paths[path], 75)
    assert_once(paths["/hooks/answers"], 25)
    assert sorted(kept("/hooks/answers")) == sorted(answers)
    assert sorted(kept(INGEST_PATH)) == sorted(kept("/hooks/lines")) == sorted(events)
    assert paths[CONVERSATIONS.path].out_of_order == 0
    assert (done.report["delivered"], done.report["exit_code"], done.letters) == (75, 0, [])
    assert {name: ledger["delivered"] for name, ledger in done.report["sinks"].items()} == {
        **dict.fromkeys(("ingest", "bridge", "genesys", "lines"), 75),
        "answers": 25,
    }
