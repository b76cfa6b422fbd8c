"""The inbound event APIs of Genesys Cloud and journey external events, over real connections."""

import json
import uuid
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.sandbox.apis.communications import Communications
from ingestd.sandbox.faults import parse_faults
from ingestd.schemas.genesys_models import EVENT_APIS, event_api, model
from tests.each import each
from tests.genesys import least, least_entry, objects
from tests.integration.sandbox.conftest import Client, Start

pytestmark = pytest.mark.anyio
CONVERSATIONS, PRESENCE, ROUTING_STATUS, KPI = map(event_api, EVENT_APIS)
CONVERSATION, USER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
JOURNEY = "/api/v2/journey/externalevents/configurations/c-1/events"


def entry(
    number: int, second: int = 0, array: str = "userEstablishedEvents", **changes: object
) -> dict[str, object]:
    fields = {
        "eventId": str(uuid.UUID(int=1_000 + number)),
        "eventDateTime": f"2026-01-01T10:00:{second:02}.000Z",
        "conversationId": CONVERSATION,
    }
    if "communicationId" in model(CONVERSATIONS.arrays[array]).fields:
        fields["communicationId"] = USER
    return least_entry(array, **(fields | changes))


async def publish(client: Client, **arrays: list[Any]) -> httpx.Response:
    return await client.call(CONVERSATIONS.path, json.dumps(arrays).encode())


async def errors(client: Client, **arrays: list[Any]) -> list[tuple[str, str, bool]]:
    answer = await publish(client, **arrays)
    assert answer.status_code == 200, answer.text
    return [(e["eventId"], e["message"], e["retryable"]) for e in answer.json()["errors"]]


async def test_a_conversation_is_taken_from_its_beginning_to_its_end(start: Start) -> None:
    client = await start()
    assert await errors(client, userEstablishedEvents=[entry(1, 1)]) == []
    assert (
        await errors(client, communicationAnsweredEvents=[entry(2, 2, "communicationAnsweredEvents")]) == []
    )
    assert await errors(client, routingTransferEvents=[entry(3, 3, "routingTransferEvents")]) == []
    assert await errors(client, communicationEndedEvents=[entry(4, 4, "communicationEndedEvents")]) == []
    assert (
        await errors(
            client,
            communicationDispositionAppliedEvents=[entry(5, 5, "communicationDispositionAppliedEvents")],
        )
        == []
    )
    counts = client.path(CONVERSATIONS.path)
    assert (counts.events, counts.distinct, counts.duplicates, counts.out_of_order) == (5, 5, 0, 0)
    assert json.loads(client.sandbox.kept(CONVERSATIONS.path)[0]) == entry(1, 1)


async def test_an_event_before_its_communication_is_refused_for_good_and_may_come_later(start: Start) -> None:
    client = await start()
    [(name, said, retryable)] = await errors(
        client, communicationAnsweredEvents=[entry(1, 0, "communicationAnsweredEvents")]
    )
    assert (name, said, retryable) == (entry(1)["eventId"], "communication was never established", False)
    [(_, said, _)] = await errors(client, userTransferEvents=[entry(2, 0, "userTransferEvents")])
    assert said == "conversation was never established"
    await errors(client, phoneEstablishedEvents=[entry(3, 0, "phoneEstablishedEvents")])
    assert (
        await errors(client, communicationAnsweredEvents=[entry(1, 0, "communicationAnsweredEvents")]) == []
    )
    await errors(client, communicationEndedEvents=[entry(4, 0, "communicationEndedEvents")])
    [(_, said, _)] = await errors(client, holdUpdatedEvents=[entry(5, 0, "holdUpdatedEvents")])
    assert said == "the communication has ended"
    assert client.path(CONVERSATIONS.path).item_errors == 3


async def test_the_state_machine_can_be_switched_off(start: Start) -> None:
    client = await start(communication_states=False)
    assert (
        await errors(client, communicationAnsweredEvents=[entry(1, 0, "communicationAnsweredEvents")]) == []
    )


async def test_within_a_request_time_decides_and_then_the_name_of_the_array(start: Start) -> None:
    client = await start()
    arrays = {
        "communicationAnsweredEvents": [entry(1, 2, "communicationAnsweredEvents")],
        "userEstablishedEvents": [entry(2, 1)],
    }
    assert await errors(client, **arrays) == []
    other = str(uuid.UUID(int=9))
    same = {
        "userEstablishedEvents": [entry(3, 5, conversationId=other)],
        "communicationAnsweredEvents": [entry(4, 5, "communicationAnsweredEvents", conversationId=other)],
    }
    assert [said for _, said, _ in await errors(client, **same)] == ["communication was never established"]


async def test_an_older_event_of_the_same_communication_is_counted(start: Start) -> None:
    client = await start()
    await errors(client, userEstablishedEvents=[entry(1, 10)])
    await errors(client, holdUpdatedEvents=[entry(2, 9, "holdUpdatedEvents")])
    await errors(client, holdUpdatedEvents=[entry(3, 10, "holdUpdatedEvents")])
    assert client.path(CONVERSATIONS.path).out_of_order == 1


async def test_an_event_id_that_comes_again_is_recognised(start: Start) -> None:
    client = await start()
    for _ in range(2):
        assert await errors(client, userEstablishedEvents=[entry(1)]) == []
    [(_, said, retryable)] = await errors(client, userEstablishedEvents=[entry(1, 5)])
    assert (said, retryable) == ("eventId was used for another event", False)
    counts = client.path(CONVERSATIONS.path)
    assert (counts.events, counts.repeated, counts.duplicates) == (1, 1, 0)


async def test_the_same_event_under_another_id_is_a_duplicate(start: Start) -> None:
    client = await start()
    await errors(client, userEstablishedEvents=[entry(1)])
    await errors(client, userEstablishedEvents=[entry(2)])
    counts = client.path(CONVERSATIONS.path)
    assert (counts.events, counts.distinct, counts.duplicates) == (2, 1, 1)


@each(
    ("changes", "said"),
    [
        ({"eventId": "e-1"}, "eventId: a V4 UUID"),
        ({"eventDateTime": ...}, "eventDateTime"),
        ({"eventDateTime": "2026-01-01T10:00:00"}, "eventDateTime"),
        ({"userId": "agent-7"}, "userId: a V4 UUID"),
        ({"initialConfiguration": ...}, "initialConfiguration: an object"),
        ({"sourceConfiguration": {"sourceId": "s"}}, "sourceConfiguration.interactionId"),
        ({"afterCallWorkRequired": "no"}, "afterCallWorkRequired: true or false"),
        ({"eventDateTime": "2026-02-30T10:00:00Z"}, "eventDateTime"),
        ({"eventDateTime": 5}, "eventDateTime"),
        ({"conversationId": "int-001"}, "conversationId"),
        ({"communicationId": ...}, "communicationId"),
    ],
)
async def test_an_entry_that_lacks_something_is_named(
    start: Start, changes: dict[str, Any], said: str
) -> None:
    client = await start()
    [(_, message, retryable)] = await errors(client, userEstablishedEvents=[entry(1, **changes), entry(2)])
    assert message.startswith(said)
    assert not retryable
    assert client.path(CONVERSATIONS.path).events == 1


@each(
    ("body", "field"),
    [
        (b"", None),
        (b"[]", None),
        (b'{"userEstablishedEvents":{}}', None),
        (b'{"userEstablishedEvents":[]}', None),
        (b'{"inventedEvents":[{}]}', "inventedEvents"),
        (b'{"userEstablishedEvents":[5]}', "userEstablishedEvents[0].eventId"),
        (b'{"userEstablishedEvents":[{"eventId":null}]}', "userEstablishedEvents[0].eventId"),
        (b'{"userEstablishedEvents":[' + b"[" * 50_000, None),
    ],
)
async def test_a_body_whose_events_cannot_be_named_is_400(
    start: Start, body: bytes, field: str | None
) -> None:
    client = await start()
    answer = await client.call(CONVERSATIONS.path, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad.request")
    assert [detail["fieldName"] for detail in answer.json()["details"]] == ([field] if field else [])


async def test_limits_are_exact(start: Start) -> None:
    client = await start()
    hundred = [entry(n) for n in range(100)]
    assert await errors(client, userEstablishedEvents=hundred) == []
    assert (await publish(client, userEstablishedEvents=[*hundred, entry(100)])).status_code == 400
    body = json.dumps({"userEstablishedEvents": [entry(200)]}).encode()
    assert (await client.call(CONVERSATIONS.path, body.ljust(512_000))).status_code == 200
    assert (await client.call(CONVERSATIONS.path, body.ljust(512_001))).status_code == 413
    assert (await client.call(CONVERSATIONS.path, body, Content_Type="text/plain")).status_code == 415
    client.token = ""
    assert (await client.call(CONVERSATIONS.path, body)).status_code == 401


async def test_shares_of_the_events_are_refused_once_and_for_good(start: Start) -> None:
    client = await start(faults=parse_faults(["event-retry:0.4", "event-dead:0.2"]))
    events = [entry(n) for n in range(100)]
    first = {name: retryable for name, _, retryable in await errors(client, userEstablishedEvents=events)}
    again = [one for one in events if one["eventId"] in first]
    second = {name: retryable for name, _, retryable in await errors(client, userEstablishedEvents=again)}
    assert 20 <= sum(first.values()) <= 60
    assert second == {name: False for name, retryable in first.items() if not retryable}
    assert 5 <= len(second) <= 35
    struck = client.sandbox.stats().faults
    assert struck["event-dead"] == 2 * len(second)
    counts = client.path(CONVERSATIONS.path)
    assert (counts.events, counts.item_errors) == (100 - len(second), len(first) + len(second))


async def test_partial_refuses_a_few_that_may_come_again(start: Start) -> None:
    client = await start(faults=parse_faults(["partial:1"]))
    refused = await errors(client, userEstablishedEvents=[entry(n) for n in range(10)])
    assert [retryable for _, _, retryable in refused] == [True] * 3


async def test_presence_and_routing_status_have_fields_of_their_own(start: Start) -> None:
    client = await start()
    base = {"eventId": entry(1)["eventId"], "eventDateTime": "2026-01-01T10:00:00Z"}
    presence = base | {"userId": USER, "sourceId": USER}
    routing = base | {"agentId": USER, "sourceId": "s", "status": "Idle"}

    async def said(path: str, array: str, content: dict[str, Any]) -> list[str]:
        answer = await client.call(path, json.dumps({array: [content]}).encode())
        return [str(error["message"]) for error in answer.json()["errors"]]

    assert await said(PRESENCE.path, "userPresenceEvents", presence) == []
    assert await said(ROUTING_STATUS.path, "userRoutingStatusEvents", routing) == []
    wrong = await said(ROUTING_STATUS.path, "userRoutingStatusEvents", routing | {"status": "Busy"})
    assert wrong[0].startswith("status: one of OffQueue, Idle")
    [wrong_source] = await said(PRESENCE.path, "userPresenceEvents", presence | {"sourceId": "avaya"})
    assert wrong_source == "sourceId: a V4 UUID expected"
    kpi = least(KPI.arrays["customKpiAttributionEvents"])
    assert await said(KPI.path, "customKpiAttributionEvents", kpi) == []
    [wrong_value] = await said(KPI.path, "customKpiAttributionEvents", kpi | {"associatedValue": "much"})
    assert wrong_value == "associatedValue: a number expected"
    older = presence | {"eventId": entry(2)["eventId"], "eventDateTime": "2026-01-01T09:59:59.999Z"}
    assert await said(PRESENCE.path, "userPresenceEvents", older) == []
    assert (client.path(PRESENCE.path).events, client.path(PRESENCE.path).out_of_order) == (2, 1)
    assert client.path(ROUTING_STATUS.path).events == 1


def test_all_arrays_of_the_platform_are_there() -> None:
    names = CONVERSATIONS.arrays.keys()
    assert len(names) == 32
    assert sum(name.startswith("email") for name in names) == 14
    assert {"emailFlowEstablishedEvents", "communicationEndedEvents", "consultTransferEvents"} <= names


TRANSFER = ("transferType", "commandId", "initiatingCommunicationId", "targetCommunicationId")
INITIAL = ("initialConfiguration", "sourceConfiguration")
REQUIRED = {
    "endTransfer emailEndTransfer": ("commandId", "finalState", "objectCommunicationId"),
    "phoneTransfer": (*TRANSFER, "objectCommunicationId", "destinationPhoneNumber"),
    "routingTransfer": (*TRANSFER, "objectCommunicationId", "destinationQueueId"),
    "userTransfer": (*TRANSFER, "objectCommunicationId", "destinationUserId"),
    "emailRoutingTransfer": ("transferType", "commandId", "objectCommunicationId", "destinationQueueId"),
    "emailUserTransfer": ("transferType", "commandId", "objectCommunicationId", "destinationUserId"),
    "progressTransfer emailProgressTransfer": (
        *("commandId", "objectCommunicationId"),
        "destinationCommunicationId",
    ),
    "consultTransfer progressConsultTransfer": (
        *("initiatingCommunicationId", "destinationCommunicationId"),
        "objectCommunicationId",
    ),
    "holdUpdated emailHoldUpdated": ("held",),
    "audioUpdated": ("audioState",),
    "externalEstablished ivrEstablished phoneEstablished": INITIAL,
    "emailExternalEstablished emailFlowEstablished": INITIAL,
    "routingEstablished emailRoutingEstablished": (*INITIAL, "queueId"),
    "userEstablished emailUserEstablished": (*INITIAL, "userId"),
    "communicationEnded emailCommunicationEnded": ("disconnectType",),
}
"""By hand from the published models, so that the table is held against something else than itself."""
CHOICES = ("finalState", "transferType", "disconnectType")


async def test_no_array_is_taken_without_what_its_model_requires_or_with_a_word_that_it_does_not_know(
    start: Start,
) -> None:
    client = await start(communication_states=False)
    number = 100
    for names, fields in REQUIRED.items():
        for name in names.split():
            array, number = f"{name}Events", number + 1
            assert await errors(client, **{array: [entry(number, 0, array)]}) == []
            for field in ("eventId", "eventDateTime", "conversationId", *fields):
                if field != "eventId":
                    [(_, said, _)] = await errors(client, **{array: [entry(2, 0, array, **{field: ...})]})
                    assert said.startswith(f"{field}: "), array
                if field in CHOICES:
                    wrong = entry(3, 0, array, **{field: "Nonsense"})
                    [(_, said, _)] = await errors(client, **{array: [wrong]})
                    assert said.startswith(f"{field}: one of "), array


@each(
    "time",
    ["2026-01-01T10:00:00+00:00", "2026-01-01T10:00:00.000000Z", "2026-01-01T12:00:00.123456789+02:00"],
)
async def test_any_time_with_an_offset_is_taken(start: Start, time: str) -> None:
    client = await start()
    assert await errors(client, userEstablishedEvents=[entry(1, eventDateTime=time)]) == []
    assert await errors(client, holdUpdatedEvents=[entry(2, 1, "holdUpdatedEvents")]) == []
    assert client.path(CONVERSATIONS.path).out_of_order == 0, "times of other offsets are compared as times"


@given(st.data())
def test_what_a_model_takes_is_taken_and_without_what_it_requires_it_is_not(data: st.DataObject) -> None:
    api = event_api(data.draw(st.sampled_from(EVENT_APIS)))
    name = data.draw(st.sampled_from(sorted(api.arrays.values())))
    made = data.draw(objects(name))
    assert model(name).find_fault(json.dumps(made).encode()) is None
    required = [field for field, spec in model(name).fields.items() if spec.get("required")]
    field = data.draw(st.sampled_from(required))
    fault = model(name).find_fault_of({other: value for other, value in made.items() if other != field})
    assert fault
    assert fault.startswith(f"{field}: ")


@given(st.lists(st.sampled_from(["Established", "Answered", "Ended"]), max_size=12))
def test_no_sequence_of_events_passes_without_an_establishment_before(kinds: list[str]) -> None:
    communications = Communications(keeps_states=True)
    state = "none"
    for kind in kinds:
        array = "userEstablishedEvents" if kind == "Established" else f"communication{kind}Events"
        fault = communications.fault(array, "c", "x")
        assert (fault is None) == (kind == "Established" or state == "established")
        if fault is None:
            communications.note(array, "c", "x")
            state = "ended" if kind == "Ended" else "established"


def journey(number: int, **changes: object) -> dict[str, object]:
    content = {
        "id": f"j-{number}",
        "dateCreated": "2026-01-01T10:00:00Z",
        "identifiers": {"externalIds": [{"value": "42", "externalSourceId": "crm"}]},
        "attributes": {"orderId": "o-1"},
    }
    return {k: v for k, v in (content | changes).items() if v is not ...}


async def send_journey(client: Client, *entities: object) -> list[dict[str, Any]]:
    answer = await client.call(JOURNEY, json.dumps({"entities": entities}).encode())
    assert answer.status_code == 200, answer.text
    unprocessed: list[dict[str, Any]] = answer.json()["unprocessedEntities"]
    return unprocessed


async def test_journey_events_that_are_not_taken_come_back_with_their_place(start: Start) -> None:
    client = await start()
    bad = journey(2, identifiers={})
    [refused] = await send_journey(client, journey(1), bad, journey(3))
    assert refused["event"] == bad
    assert (refused["originalRequestIndex"], refused["isRetryable"], refused["statusCode"]) == (1, False, 400)
    assert refused["errorMessage"].startswith("identifiers.externalIds")
    await send_journey(client, journey(1))
    counts = client.path(JOURNEY)
    assert (counts.events, counts.distinct, counts.duplicates, counts.item_errors) == (3, 2, 1, 1)


@each(
    "bad",
    [
        5,
        journey(1, id=...),
        journey(1, dateCreated="now"),
        journey(1, identifiers={"externalIds": [{"value": "1"}]}),
        journey(1, attributes={f"a{n}": n for n in range(51)}),
    ],
)
async def test_journey_events_are_checked(start: Start, bad: object) -> None:
    client = await start()
    [refused] = await send_journey(client, bad)
    assert (refused["event"], refused["isRetryable"]) == (bad, False)


async def test_journey_faults_limits_and_configurations(start: Start) -> None:
    client = await start(faults=parse_faults(["event-retry:1"]), journey_configurations=["c-1"])
    [refused] = await send_journey(client, journey(1))
    assert (refused["isRetryable"], refused["statusCode"]) == (True, 503)
    assert await send_journey(client, journey(1)) == []
    other = JOURNEY.replace("c-1", "c-2")
    assert (await client.call(other, b"{}")).status_code == 404
    for body in (b"", b"{}", b'{"entities":[]}', b'{"entities":' + b"[" * 50_000):
        assert (await client.call(JOURNEY, body)).status_code == 400
    assert (await client.call(JOURNEY, b" " * 512_001)).status_code == 413
