"""An event of several entries goes in several requests, of which each waits for the one before."""

import json
from typing import Any

import pytest

from ingestd.core.chunk import Batch
from ingestd.core.reasons import Reason
from ingestd.intake.recovery import Recovery
from ingestd.sinks.genesys_events import GenesysEventsSink
from ingestd.store.frozen_batches import FrozenBatch, PackedSegment, body_digest, pack_positions
from tests.ids import new_id
from tests.integration.delivery.support import rig
from tests.receiver import Action, Cut, Reply, Request
from tests.unit.sinks.genesys_support import interaction

pytestmark = pytest.mark.anyio

TAKEN = Reply(body=b'{"errors":[]}')
FOUR = ["routingTransferEvents", "routingEstablishedEvents", "progressTransferEvents", "endTransferEvents"]


def batch(*events: bytes) -> Batch:
    return Batch(list(events), [None] * len(events), [], new_id)


def arrays(request: Request) -> dict[str, list[str]]:
    return {array: [one["eventId"] for one in entries] for array, entries in request.json().items()}


class Api:
    """Answers in turn what is set for an array, and is content otherwise."""

    def __init__(self, **answers: list[Action]) -> None:
        self.answers = answers
        self.sent: list[dict[str, list[str]]] = []

    def __call__(self, request: Request) -> Action:
        self.sent.append(arrays(request))
        due = [self.answers[array] for array in request.json() if self.answers.get(array)]
        return due[0].pop(0) if due else TAKEN

    def times(self, array: str) -> int:
        return sum(array in one for one in self.sent)


async def deliver(api: Api, *events: bytes, **settings: Any) -> Any:
    sink = GenesysEventsSink(name="g", api="http://x", mapping="interaction", source_id="pbx")
    async with rig(api, **settings, sink=sink) as r:
        sink.url = r.receiver.url + "/events"
        given = [batch(*events)]
        await r.deliver(given)
        return r.book


async def test_each_entry_waits_for_the_one_before_and_the_event_for_its_last() -> None:
    api = Api()
    book = await deliver(
        api, interaction("REQUEUE", "a"), interaction("ANSWER", "b"), interaction("TRANSFER", "c")
    )
    assert [list(one) for one in api.sent] == [
        ["routingTransferEvents", "communicationAnsweredEvents"],
        ["routingEstablishedEvents", "endTransferEvents"],
        ["progressTransferEvents"],
        ["endTransferEvents"],
    ]
    assert [end.reason for end in book.ends.values()] == [None] * 3


async def test_what_is_refused_has_no_further_entry_and_the_others_go_on() -> None:
    bad, good = interaction("REQUEUE", "a"), interaction("REQUEUE", "b")
    sink = GenesysEventsSink(name="g", api="http://x", mapping="interaction", source_id="pbx")
    second = json.loads(sink.encode_step([bad], 1))["routingEstablishedEvents"][0]["eventId"]
    no = Reply(body=json.dumps({"errors": [{"eventId": second, "message": "no such queue"}]}).encode())
    api = Api(routingEstablishedEvents=[no])
    book = await deliver(api, bad, good)
    assert [[len(ids) for ids in one.values()] for one in api.sent] == [[2], [2], [1], [1]]
    assert {event: end.reason for event, end in book.ends.items()} == {bad: Reason.REFUSED, good: None}


async def test_what_may_pass_is_sent_again_from_where_it_was_under_the_same_ids() -> None:
    busy, again = Reply(503), Cut()
    api = Api(routingEstablishedEvents=[busy, again], endTransferEvents=[busy])
    book = await deliver(api, interaction("REQUEUE"))
    assert [api.times(array) for array in FOUR] == [1, 3, 1, 2]
    assert (
        len({tuple(one["routingEstablishedEvents"]) for one in api.sent if "routingEstablishedEvents" in one})
        == 1
    )
    assert len(book.ends) == 1


def test_after_a_crash_between_two_entries_it_goes_on_with_the_same_request() -> None:
    sink = GenesysEventsSink(name="g", api="http://x", mapping="interaction", source_id="pbx")
    events = [interaction("REQUEUE", "a"), interaction("REQUEUE", "b")]
    for step in range(4):
        body = sink.encode_step(events, step)
        place = [PackedSegment(7, 0, 9, pack_positions(range(2)))]
        frozen = FrozenBatch("id-1", False, 1.0, 2, body_digest(body), place, events, "g")
        recovery = Recovery(
            [frozen],
            {7},
            encode=sink.encode,
            stepped=sink,
            digests=lambda events: [None] * len(events),
            claims_keys=True,
            new_id=new_id,
        )
        (again,) = recovery.kept_batches()
        assert (again.id, again.step, again.body, again.ambiguous) == ("id-1", step, body, True)
