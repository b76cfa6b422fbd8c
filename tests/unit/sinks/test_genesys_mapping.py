"""Interaction events as entries of the conversations API, their ids and times."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.sandbox.apis.communications import Communications
from ingestd.schemas.genesys_models import event_api, model
from ingestd.sinks.genesys_events import GenesysEventsSink
from ingestd.sinks.genesys_mapping import DISCONNECT_TYPES, InteractionMapping, make_uuid, write_time
from tests.each import each
from tests.unit.sinks.genesys_support import (
    A_UUID,
    ACTIONS,
    MAPPED,
    fault_of,
    interaction,
    mapped,
    steps,
)


def test_answer_becomes_communication_answered() -> None:
    (array, made), *others = mapped("ANSWER").items()
    assert (array, others) == ("communicationAnsweredEvents", [])
    assert made.keys() == {"eventId", "eventDateTime", "conversationId", "communicationId"}
    assert made["eventDateTime"] == "2026-01-01T10:00:00.123Z"


def test_queue_becomes_routing_established_and_keeps_the_foreign_id() -> None:
    made = mapped("QUEUE", tagId="vip", ani="+4930", languageId="de")["routingEstablishedEvents"]
    assert made["queueId"] == "queue-alpha"
    assert made["sourceConfiguration"] == {"sourceId": "pbx", "interactionId": "int-001", "tagId": "vip"}
    assert made["initialConfiguration"] == {"inbound": True, "additionalInfo": {"skill": "support"}}
    assert (made["ani"], made["languageId"]) == ("+4930", "de")
    assert (
        mapped("QUEUE", inbound=False)["routingEstablishedEvents"]["initialConfiguration"]["inbound"] is False
    )


def test_a_skill_goes_as_its_id_only() -> None:
    assert "skillIds" not in mapped("QUEUE")["routingEstablishedEvents"]
    assert mapped("QUEUE", skillIds=[A_UUID])["routingEstablishedEvents"]["skillIds"] == [A_UUID]
    event = interaction("QUEUE").replace(b'"support"', b'"%b"' % A_UUID.encode())
    (made,) = json.loads(MAPPED.encode([event]))["routingEstablishedEvents"]
    assert made["skillIds"] == [A_UUID]
    assert made["initialConfiguration"] == {"inbound": True}


def test_requeue_becomes_a_transfer_to_a_new_leg_that_ends() -> None:
    made = mapped("REQUEUE")
    assert list(made) == [
        *("routingTransferEvents", "routingEstablishedEvents"),
        *("progressTransferEvents", "endTransferEvents"),
    ]
    transfer, established, progress, end = made.values()
    assert transfer["destinationQueueId"] == established["queueId"] == "queue-alpha"
    times = [one["eventDateTime"] for one in made.values()]
    assert times == [f"2026-01-01T10:00:00.{ms}Z" for ms in (123, 124, 125, 126)]
    assert len({one["eventId"] for one in made.values()}) == 4
    assert len({one["conversationId"] for one in made.values()}) == 1
    old = mapped("QUEUE")["routingEstablishedEvents"]["communicationId"]
    assert old == transfer["objectCommunicationId"] != established["communicationId"]
    assert progress["destinationCommunicationId"] == established["communicationId"]
    assert (end["commandId"], end["finalState"]) == (transfer["commandId"], "Completed")


def test_a_user_who_answers_has_a_leg_that_rings_first() -> None:
    made = mapped("ANSWER", userId=A_UUID, ani="+4930")
    assert list(made) == ["userEstablishedEvents", "communicationAnsweredEvents"]
    established, answered = made.values()
    assert (established["userId"], established["ani"]) == (A_UUID, "+4930")
    assert established["initialConfiguration"]["alerting"] is True
    assert established["communicationId"] == answered["communicationId"]
    assert answered["communicationId"] != mapped("ANSWER")["communicationAnsweredEvents"]["communicationId"]
    named = mapped("ANSWER", userId=A_UUID, communicationId="leg-7")
    assert {one["communicationId"] for one in named.values()} == {
        make_uuid("leg-7", kind="communication", namespace="pbx")
    }


def test_who_calls_has_a_leg_before_the_queues() -> None:
    made = mapped("QUEUE", ani="+4930", dnis="+4931")
    assert list(made) == ["externalEstablishedEvents", "routingEstablishedEvents"]
    outside, queued = made.values()
    assert (outside["ani"], outside["dnis"]) == ("+4930", "+4931")
    assert outside["communicationId"] != queued["communicationId"]


def test_a_disconnect_ends_the_legs_that_it_speaks_of() -> None:
    ended = [
        entry["communicationId"] for _, entry in steps(interaction("DISCONNECT", userId=A_UUID, ani="+49"))
    ]
    user = mapped("ANSWER", userId=A_UUID)["userEstablishedEvents"]["communicationId"]
    legs = [entry["communicationId"] for entry in mapped("QUEUE", ani="+49").values()]
    assert sorted(ended) == sorted([user, *legs])
    (one,) = steps(interaction("DISCONNECT", userId=A_UUID, ani="+49", communicationId="leg-7"))
    assert one[1]["communicationId"] == make_uuid("leg-7", kind="communication", namespace="pbx")


def test_a_transfer_is_by_the_user_and_of_who_calls() -> None:
    begun = mapped("TRANSFER", userId=A_UUID, ani="+49")["routingTransferEvents"]
    user = mapped("ANSWER", userId=A_UUID)["userEstablishedEvents"]["communicationId"]
    outside = mapped("QUEUE", ani="+49")["externalEstablishedEvents"]["communicationId"]
    assert (begun["initiatingCommunicationId"], begun["targetCommunicationId"]) == (user, user)
    assert begun["objectCommunicationId"] == outside


IDS = st.uuids().map(str)
AGENTS = [str(UUID(int=number, version=4)) for number in (1, 2)]
STRICT = GenesysEventsSink(name="s", api="https://x", mapping="interaction", source_id="pbx", strict=True)


@st.composite
def interactions_in_order(draw: st.DrawFn) -> list[bytes]:
    """One interaction from its first queue on, perhaps to its end; its caller is known always or never, and
    who answered is known at its end."""
    outside = draw(st.sampled_from([{}, {"ani": "+4930"}, {"ani": "+4930", "dnis": "+4931"}]))
    end: dict[str, Any] = {}
    actions = [
        "QUEUE",
        *draw(st.lists(st.sampled_from(["QUEUE", "ANSWER", "REQUEUE", "TRANSFER"]), max_size=6)),
    ]
    events = []
    for number, action in enumerate(actions + ["DISCONNECT"] * draw(st.booleans())):
        user = draw(st.sampled_from([{}, *({"userId": agent} for agent in AGENTS)]))
        destination = {
            name: draw(st.none() | IDS) for name in ("destinationUserId", "destinationCommunicationId")
        }
        attributes = {"ANSWER": user, "TRANSFER": destination, "REQUEUE": destination, "DISCONNECT": end}
        end = user if action == "ANSWER" else end
        made = interaction(action, **outside, **attributes.get(action, {}))
        made = made.replace(b"queue-alpha", draw(IDS).encode()).replace(b"11:00:00", b"11:%02d:00" % number)
        events.append(made)
    return events


@given(interactions_in_order())
def test_any_sequence_is_a_conversation_that_the_rules_and_the_models_accept(events: list[bytes]) -> None:
    communications = Communications(keeps_states=True)
    ids, times = set(), []
    for event in events:
        for array, entry in steps(event, STRICT):
            assert model(event_api("conversations").arrays[array]).find_fault_of(entry) is None
            leg = entry.get("communicationId", "")
            assert communications.fault(array, entry["conversationId"], leg) is None, (array, entry)
            communications.note(array, entry["conversationId"], leg)
            ids.add(entry["eventId"])
            times.append(entry["eventDateTime"])
    assert len(ids) == len(times)
    assert times == sorted(times)


@each(
    ("attributes", "array", "field"),
    [
        ({}, "routingTransferEvents", ("destinationQueueId", "queue-alpha")),
        ({"destinationUserId": A_UUID}, "userTransferEvents", ("destinationUserId", A_UUID)),
        ({"destinationPhoneNumber": "+49"}, "phoneTransferEvents", ("destinationPhoneNumber", "+49")),
    ],
)
def test_transfer_goes_where_the_attributes_say(
    attributes: dict[str, str], array: str, field: tuple[str, str]
) -> None:
    made = mapped("TRANSFER", **attributes)
    assert list(made) == [array, "endTransferEvents"]
    begun, ended = made.values()
    assert (field[0], begun[field[0]]) == field
    assert begun["transferType"] == "Unattended"
    assert ended["finalState"] == "Completed"
    assert begun["commandId"] == ended["commandId"]
    assert begun["objectCommunicationId"] == ended["objectCommunicationId"]
    assert ended["eventDateTime"] > begun["eventDateTime"]


def test_a_transfer_has_its_progress_where_the_event_names_the_new_communication() -> None:
    made = mapped(
        "TRANSFER",
        destinationCommunicationId="leg-2",
        communicationId="leg-1",
        finalState="failed",
        transferType="attended",
    )
    begun, progress, ended = made.values()
    assert list(made) == ["routingTransferEvents", "progressTransferEvents", "endTransferEvents"]
    assert begun["eventDateTime"] < progress["eventDateTime"] < ended["eventDateTime"]
    assert progress["destinationCommunicationId"] == make_uuid("leg-2", kind="communication", namespace="pbx")
    assert begun["targetCommunicationId"] == make_uuid("leg-1", kind="communication", namespace="pbx")
    assert (begun["transferType"], ended["finalState"]) == ("Attended", "Failed")
    assert len({e["eventId"] for e in made.values()}) == 3


def test_disconnect_becomes_communication_ended() -> None:
    assert mapped("DISCONNECT")["communicationEndedEvents"]["disconnectType"] == "System"
    for how in DISCONNECT_TYPES:
        made = mapped("DISCONNECT", disconnectType=how.upper())
        assert made["communicationEndedEvents"]["disconnectType"] == how


def test_all_events_of_an_interaction_share_its_conversation_and_communication() -> None:
    made = [entry for action in ACTIONS for entry in mapped(action).values()]
    assert len({entry["conversationId"] for entry in made}) == 1
    legs = [mapped(action).values() for action in ACTIONS if action != "REQUEUE"]
    assert len({one["communicationId"] for leg in legs for one in leg if "communicationId" in one}) == 1
    assert len({entry["eventId"] for entry in made}) == len(made)
    assert {MAPPED.order_key(interaction(action)) for action in ACTIONS} == {made[0]["conversationId"]}


def test_a_foreign_id_that_is_a_uuid_is_kept_but_conversation_and_communication_stay_two() -> None:
    made = mapped("ANSWER", A_UUID)["communicationAnsweredEvents"]
    assert made["conversationId"] == A_UUID
    assert made["communicationId"] != A_UUID
    assert (
        mapped("ANSWER", communicationId=A_UUID)["communicationAnsweredEvents"]["communicationId"] == A_UUID
    )


def test_an_event_id_of_the_producer_is_used_and_names_one_entry_only() -> None:
    event = interaction("REQUEUE").replace(b"{", b'{"eventId":"%b",' % A_UUID.encode(), 1)
    transfer, established, *_ = (entry for _, entry in steps(event))
    assert transfer["eventId"] == A_UUID
    assert established["eventId"] != A_UUID
    other_time = event.replace(b"11:00", b"11:30")
    again = dict(steps(other_time))["routingEstablishedEvents"]["eventId"]
    assert again == established["eventId"]


def test_two_events_of_one_interaction_have_ids_of_their_own() -> None:
    one, other = interaction("ANSWER"), interaction("ANSWER").replace(b"11:00", b"11:30")
    first, second = json.loads(MAPPED.encode([one, other]))["communicationAnsweredEvents"]
    assert first["eventId"] != second["eventId"]


def test_two_platforms_with_the_same_interaction_id_do_not_meet() -> None:
    one = InteractionMapping("pbx").entries(interaction("ANSWER"))
    assert InteractionMapping("crm").entries(interaction("ANSWER")) != one
    assert InteractionMapping("crm", namespace="pbx").entries(interaction("ANSWER")) == one


@each(
    ("event", "words"),
    [
        (interaction("ANSWER").replace(b"ANSWER", b"WINK"), "actionType"),
        (interaction("ANSWER").replace(b"int-001", b""), "interactionId"),
        (interaction("ANSWER").replace(b"+01:00", b""), "eventTime"),
        (interaction("QUEUE").replace(b"queue-alpha", b""), "queueId"),
        (interaction("DISCONNECT", disconnectType="Sulking"), "disconnectType"),
        (interaction("TRANSFER", finalState="CANARY"), "finalState"),
        (interaction("TRANSFER", transferType=7), "transferType"),
        (
            interaction("QUEUE").replace(b"2026-01-01T11:00:00.1239+01:00", b"0001-01-01T00:00:00+01:00"),
            "1 and 9999",
        ),
        (
            interaction("REQUEUE").replace(b"2026-01-01T11:00:00.1239+01:00", b"9999-12-31T23:59:59.999Z"),
            "1 and 9999",
        ),
        (b'{"a":' * 50_000, "deep"),
        (b"[]", "object"),
        (b'{"interactionId":"CANARY\xff"}', "UTF-8"),
    ],
)
def test_an_interaction_event_without_words_in_the_api_does_not_fit(event: bytes, words: str) -> None:
    fault = fault_of(MAPPED, event)
    assert words.lower() in fault.lower()
    assert "CANARY" not in fault


# Ids and times.


def test_ids_never_change_between_releases() -> None:
    assert (
        make_uuid("int-001", kind="conversation", namespace="pbx") == "a507d678-7a57-4753-8002-500aa14ec27b"
    )


@given(st.text(), st.text(), st.text())
def test_a_made_id_is_a_version_4_uuid_and_has_only_one_origin(
    foreign: str, kind: str, namespace: str
) -> None:
    made = make_uuid(foreign, kind=kind, namespace=namespace)
    assert (UUID(made).version, UUID(made).variant) == (4, UUID(A_UUID).variant)
    assert make_uuid(made, kind="", namespace="") == made
    assert make_uuid(foreign + "x", kind=kind, namespace=namespace) != made
    assert make_uuid(foreign, kind=kind + "1", namespace=namespace) != made
    assert make_uuid(kind + foreign, kind="", namespace=namespace) != made or not kind


@each(
    ("text", "written"),
    [
        ("2026-01-01T10:00:00Z", "2026-01-01T10:00:00.000Z"),
        ("2026-01-01t10:00:00.5z", "2026-01-01T10:00:00.500Z"),
        ("2026-01-01T00:30:00.9999999999+01:00", "2025-12-31T23:30:00.999Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999Z"),
        ("2017-01-01T00:59:60.7+01:00", "2016-12-31T23:59:59.999Z"),
        ("0099-01-01T00:00:00Z", "0099-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_written_in_utc_with_milliseconds(text: str, written: str) -> None:
    assert write_time(text) == written


@each("text", ["", "2026-01-01", "2026-01-01T10:00:00", "now", "2026-01-01T10:00:00Z\n"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        write_time(text)


@given(st.datetimes(timezones=st.timezones()), st.integers(0, 5))
def test_a_written_time_is_the_same_moment(moment: datetime, later_ms: int) -> None:
    text = moment.isoformat()
    try:
        written = write_time(text, later_ms=later_ms)
    except ValueError:
        assert moment.year in (1, 9999) or moment.utcoffset().seconds % 60  # type: ignore[union-attr]
        return
    late_ms = (datetime.fromisoformat(written) - moment).total_seconds() * 1000 - later_ms
    assert -1.001 < late_ms < 0.001
