"""Whatever several sinks and their APIs say, in whatever order and over a restart: the ledger's one rule."""

from collections.abc import Mapping
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Batch, Chunk, Keeper, Segment
from ingestd.core.clock import SystemClock
from ingestd.core.ledger import Ledger
from ingestd.core.letter import DeadLetter, Failures
from ingestd.core.reasons import Reason
from ingestd.core.receipt import FanOutReceipt, Receipt
from ingestd.processing.dedup import Window
from ingestd.recording.event_recorder import EventRecorder
from ingestd.recording.unconfirmed_events import UnconfirmedEvents
from ingestd.store.lost_places import LostPlaces
from ingestd.telemetry.audit_entry import no_audit
from tests.ids import new_id

SPOOL, NUMBER = 7, 1
END_OF = {"delivered": True, "refused": False, "confirmed": True, "failed": False}
ASKED = ("confirmed", "failed")

Ends = Mapping[tuple[str, int], str]
"""(sink, position) -> what becomes of that event there."""


def place(position: int) -> tuple[int, int]:
    return NUMBER << 20 | position, position + 1


def letter(position: int, reason: Reason) -> DeadLetter:
    return DeadLetter(b"", reason, "", SPOOL, place(position)[0], 0, bytes([position]) * 16)


class NoJournal:
    """Notes nothing."""

    def note(self, work: object) -> None: ...


class Life:
    """One process that has a chunk whose events go to several sinks."""

    def __init__(self, count: int, ends: Ends, done: set[str], over: set[tuple[str, int]]) -> None:
        self.count, self.ends, self.done, self.over = count, ends, done, over
        self.sinks = sorted({sink for sink, _ in ends})
        self.ledger = Ledger()
        self.freed: list[bytes] = []
        self.told: list[int] = []
        self.left = False
        self.recorder = EventRecorder(
            ledger=self.ledger,
            window=Window(b"s" * 32),
            journal=cast("Any", NoJournal()),
            audit=no_audit,
            clock=SystemClock(),
            released=lambda digests, now: self.freed.extend(digests),
            unconfirmed=UnconfirmedEvents(self.ledger, self.sinks),
        )
        self.receipt: FanOutReceipt | None = None
        self.unconfirmed = self.recorder.unconfirmed
        self._take_up()

    def _take_up(self) -> None:
        """Of an earlier process; at first there is nothing."""
        in_spool = any(sink not in self.done for sink in self.sinks)
        lost = LostPlaces(SPOOL)
        for (sink, position), end in sorted(self.ends.items(), key=lambda item: item[0][1]):
            ended = sink in self.done and (end not in ASKED or (sink, position) in self.over)
            if ended and not END_OF[end]:
                lost.add(place(position)[0], Reason.FAILED, bytes([position]) * 16, sink)
        if in_spool:
            self.recorder.accepted(self.count)
        for sink in self.sinks:
            rows = [(sink, SPOOL, place(position)[0]) for position in self._open_at(sink)]
            self.unconfirmed.left(rows if sink in self.done else ())
        first = NUMBER if in_spool else NUMBER + 1
        self.unconfirmed.lost(SPOOL, lost, in_spool_from=first << 20)

    def _open_at(self, sink: str) -> list[int]:
        return [
            position
            for (name, position), end in self.ends.items()
            if name == sink and end in ASKED and (name, position) not in self.over
        ]

    def settle(self, sink: str) -> None:
        """The sink has sent all of its events of the chunk, and heard the answers."""
        chunk = Chunk(
            [b"e"] * self.count, source=SPOOL, start=NUMBER, end=NUMBER + 1, place=place, keeper=Keeper.SPOOL
        )
        if self.receipt is None:
            routed = {name: sorted(p for s, p in self.ends if s == name) for name in self.sinks}
            to_come = [name for name in self.sinks if name not in self.done]
            self.receipt = FanOutReceipt(
                Receipt(self.count, self._resolved),
                routed,
                events=self.count,
                sinks=len(to_come),
                confirmed=self._confirmed,
            )
            self.unconfirmed.adopt(self.receipt, chunk)
        chunk.receipt = self.receipt
        mine = sorted(position for name, position in self.ends if name == sink)
        self.recorder.expect(sink, chunk, len(mine))
        refused = [position for position in mine if self.ends[sink, position] == "refused"]
        batch = Batch(
            [b"e"] * len(mine), [None] * len(mine), [Segment(chunk, mine)], batch_id=sink, new_id=new_id
        )
        asked = [p for p in mine if self.ends[sink, p] in ASKED]
        self.unconfirmed.accepted(batch, [(mine.index(p), SPOOL, place(p)[0]) for p in asked])
        self.done.add(sink)
        if mine:
            failed = Failures(refused, [letter(p, Reason.REFUSED) for p in refused])
            resolved = chunk.receipt.resolve(sink, mine, (), failed)
            self.recorder.resolve(chunk, resolved)
            self.recorder.finish(sink, chunk, len(mine), resolved)

    def _resolved(self) -> None:
        """As the spool does when a chunk is resolved, and once all of it is confirmed."""
        assert self.receipt
        self.left = True
        if not self.receipt.unconfirmed:
            self.told.append(self.receipt.state()[1])

    def _confirmed(self) -> None:
        assert self.receipt
        if self.left:
            self.told.append(self.receipt.state()[1])

    def say(self, sink: str, position: int) -> None:
        """The API says what became of an event that it had accepted."""
        self.over.add((sink, position))
        failed = None if END_OF[self.ends[sink, position]] else letter(position, Reason.FAILED)
        row = (sink, SPOOL, place(position)[0])
        if self.unconfirmed.resolve(row, failed) and failed and failed.digest:
            self.recorder.free([failed.digest])

    def check(self) -> None:
        assert self.ledger.balanced(), self.ledger
        assert min(self.ledger.in_flight, self.ledger.accepted) >= 0, self.ledger
        good = bad = 0
        for position in range(self.count):
            mine = {sink: end for (sink, at), end in self.ends.items() if at == position}
            known = all(
                sink in self.done and (end not in ASKED or (sink, position) in self.over)
                for sink, end in mine.items()
            )
            fine = all(END_OF[end] for end in mine.values())
            good += known and fine
            bad += known and not fine
        assert self.ledger.delivered <= good
        assert self.ledger.dead_lettered <= bad


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, Ends]:
    count = draw(st.integers(1, 4))
    sinks = ["a", "b", "c"][: draw(st.integers(2, 3))]
    ends: dict[tuple[str, int], str] = {}
    for position in range(count):
        for sink in draw(st.sets(st.sampled_from(sinks), min_size=1)):
            ends[sink, position] = draw(st.sampled_from(sorted(END_OF)))
    return count, ends


@given(cases(), st.data())
def test_an_event_is_delivered_when_all_have_it_lost_when_one_lost_it_and_in_flight_until_then(
    case: tuple[int, Ends], data: st.DataObject
) -> None:
    count, ends = case
    life = Life(count, ends, set(), set())
    restart_at = data.draw(st.integers(-1, len(ends)), label="restart")
    ended_before, step = 0, 0
    while True:
        if step == restart_at:
            ended_before = 0 if any(s not in life.done for s in life.sinks) else life.ledger.ended()
            life = Life(count, ends, life.done, life.over)
        moves: list[tuple[str, int]] = [(sink, -1) for sink in life.sinks if sink not in life.done]
        moves += [
            (s, p) for s, p in ends if s in life.done and ends[s, p] in ASKED and (s, p) not in life.over
        ]
        if not moves:
            break
        sink, position = data.draw(st.sampled_from(moves), label="next")
        life.settle(sink) if position < 0 else life.say(sink, position)
        life.check()
        step += 1
    lost = {p for (_, p), end in ends.items() if not END_OF[end]}
    nobody = {p for p in lost if not any(END_OF[end] for (_, at), end in ends.items() if at == p)}
    ledger = life.ledger
    assert (ledger.in_flight, ledger.ended() + ended_before) == (0, count)
    if not ended_before:
        assert (ledger.delivered, ledger.dead_lettered) == (count - len(lost), len(lost))
    if restart_at < 0:
        assert life.told == [len(lost)]
        assert {digest[0] for digest in life.freed} == nobody
