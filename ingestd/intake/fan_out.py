"""Where a replay's events part: to each branch those that its pattern takes. Used by ``replay_intake.py``.

With one branch an event's end there is its end. With several each settles a view of the chunk, the fates
are known when all have, and a branch that lags may hold back so many bytes before the intake waits for it.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial

import anyio

from ingestd.core.batch import Batch
from ingestd.core.chunk import Chunk
from ingestd.core.clock import Clock
from ingestd.core.positions import Positions
from ingestd.core.reasons import Reason
from ingestd.core.receipt import FanOutReceipt, Receipt, Routed
from ingestd.delivery.recorder import FailedEvent, Outcomes
from ingestd.delivery.sink_runner import SinkRunner
from ingestd.intake.recovery import ProcessedEvents, RecoveredChunk, Recovery
from ingestd.processing.routes import Routes
from ingestd.recording.event_recorder import EventRecorder
from ingestd.store.journal import DISMISSED, EVERYWHERE, Journal


@dataclass(slots=True)
class RecoveredPositions:
    """What recovery knows of a chunk (positions). ``dismissed``: events that went nowhere; ``settled``: those
    that had their end at all branches; ``taken``: those in ``batches``, only where there is one branch."""

    dismissed: Set[int] = frozenset()
    settled: Set[int] = frozenset()
    taken: Set[int] = frozenset()
    batches: list[tuple[SinkRunner, Batch]] = field(default_factory=list)


class FanOut:
    """``look`` at a chunk, then ``take`` what is left of it; ``room`` waits while the lanes are full.

    ``passed``: events that an earlier process knew to have had their end, EVERYWHERE or DISMISSED.
    """

    def __init__(
        self,
        branches: Sequence[SinkRunner],
        routes: Routes,
        recoveries: Mapping[str, Recovery],
        passed: Mapping[str, ProcessedEvents],
        *,
        book: EventRecorder,
        journal: Journal,
        clock: Clock,
        max_pending_bytes: int,
    ) -> None:
        self._max_pending_bytes = max_pending_bytes
        self.rereadable = True
        self._branches = branches
        self._only = branches[0] if len(branches) == 1 else None
        self._routes = routes
        self._recoveries = recoveries
        self._passed = passed
        self._book = book
        self._journal = journal
        self._clock = clock
        self._found: dict[str, tuple[Chunk, RecoveredChunk | None]] = {}
        self._news = anyio.Event()
        self._stopped = False

    @property
    def max_event_bytes(self) -> int:
        """The longest event that fits a request of at least one branch; the others bury it."""
        return max(branch.batcher.max_event_bytes for branch in self._branches)

    @property
    def deadline(self) -> float | None:
        """When the first batch is due by age."""
        due = [d for branch in self._branches if (d := branch.batcher.deadline) is not None]
        return min(due, default=None)

    @property
    def incomplete(self) -> bool:
        """A branch was lost: what is read now will be read again, and the position stays before it."""
        return self.rereadable and any(branch.lost for branch in self._branches)

    # --- one chunk ---

    def look(self, chunk: Chunk) -> RecoveredPositions:
        """What an earlier process knew of a chunk that is read again."""
        known = RecoveredPositions(self._passed[DISMISSED].of(chunk), self._passed[EVERYWHERE].of(chunk))
        chunk.dismissed.update(known.dismissed)
        for branch in self._branches:
            view = chunk if self._only else chunk.view()
            recovery = self._recoveries[branch.name]
            found = recovery.look(view) if recovery.pending else None
            self._found[branch.name] = (view, found)
            if found:
                known.batches += [(branch, batch) for batch in found.batches]
                if self._only:
                    known.settled, known.taken = known.settled | found.settled, found.taken
        return known

    def take(
        self,
        chunk: Chunk,
        events: list[bytes],
        digests: list[bytes | None],
        positions: Positions,
        now: float,
    ) -> None:
        """Events of the chunk just looked at, with their keys and places in it, that are on their way now."""
        if self._only:
            found = self._found[self._only.name][1]
            self._only.ledger.taken_up(len(found.taken) if found else 0)
            self.take_alone(self._only, chunk, events, digests, positions, now)
        else:
            routed, unmatched = self._routes.route(events)
            self._share_out(chunk, events, digests, positions, now, routed, len(unmatched))

    def take_alone(
        self,
        branch: SinkRunner,
        chunk: Chunk,
        events: list[bytes],
        digests: list[bytes | None],
        positions: Positions,
        now: float,
    ) -> None:
        """For the only branch, events of any chunk that was looked at."""
        routed, unmatched = self._routes.route(events)
        if unmatched:
            nowhere = _pick(unmatched, events, digests, positions)
            self._unmatched(chunk, nowhere[1], nowhere[2])
            events, digests, positions = _pick(routed[branch.name], events, digests, positions)
        branch.ledger.taken_up(len(events))
        if events:
            self._batch(branch, chunk, events, digests, positions, now)

    def _unmatched(self, chunk: Chunk, digests: Sequence[bytes | None], positions: Positions) -> None:
        """Events that go nowhere have had their end: a copy of one is a duplicate."""
        safe = [digest for digest in digests if digest]
        letters = self._book.share_fate(safe, ())
        self._journal.safe(safe, letters, now=self._clock.wall())
        self._journal.passed(EVERYWHERE, chunk, positions, now=self._clock.wall())
        self._book.unmatched(len(digests))
        chunk.receipt.settle(len(digests))

    def _share_out(
        self,
        chunk: Chunk,
        events: list[bytes],
        digests: list[bytes | None],
        positions: Positions,
        now: float,
        routed: Routed,
        unmatched: int,
    ) -> None:
        parts = {name: _pick(chosen, events, digests, positions) for name, chosen in routed.items()}
        live = [branch for branch in self._branches if not (branch.lost and self.rereadable)]
        fate = FanOutReceipt(
            {name: part[2] for name, part in parts.items()},
            events=len(events) - unmatched,
            unmatched=unmatched,
            sinks=len(live),
            done=partial(
                self._fate_known,
                chunk if len(live) == len(self._branches) else None,
                digests,
                positions,
            ),
        )
        self._book.confirming.adopt(fate, chunk, positions)
        size_bytes = sum(map(len, chunk.events))
        for branch in live:
            view, found = self._found[branch.name]
            mine, keys, places = parts[branch.name]
            taken = 0
            if found:
                known = found.settled | found.taken
                left = [index for index, place in enumerate(places) if place not in known]
                mine, keys, places = _pick(left, mine, keys, places)
                taken = len(found.taken)
            branch.pending_bytes += size_bytes
            view.fate = fate
            view.receipt = Receipt(len(mine) + taken, partial(self._branch_done, branch, size_bytes, fate))
            branch.ledger.taken_up(len(mine) + taken)
            if mine:
                self._batch(branch, view, mine, keys, places, now)
            elif not taken:
                view.receipt.close()

    def _batch(
        self,
        branch: SinkRunner,
        chunk: Chunk,
        events: list[bytes],
        digests: list[bytes | None],
        positions: Positions,
        now: float,
    ) -> None:
        sizes = branch.sink.sizes(events)
        self._hand_over(branch, list(branch.batcher.add(chunk, events, digests, positions, now, sizes=sizes)))

    def _hand_over(self, branch: SinkRunner, batches: list[Batch]) -> None:
        if not branch.lost:
            branch.lane.add(batches)
        elif not self.rereadable:  # they are here or nowhere
            for batch in batches:
                bury(branch, batch, "the sink was given up in this run, and its events cannot be read again")

    def _branch_done(self, branch: SinkRunner, size_bytes: int, fate: FanOutReceipt) -> None:
        branch.pending_bytes -= size_bytes
        self._news.set()
        fate.settle()

    def _fate_known(
        self, chunk: Chunk | None, digests: Sequence[bytes | None], positions: Positions, fate: FanOutReceipt
    ) -> None:
        """``chunk`` None: a branch was lost, so it will be read again."""
        self._book.fate_known(fate, digests, positions, durable=chunk is not None)
        if chunk is not None:
            if positions:
                self._journal.passed(EVERYWHERE, chunk, positions, now=self._clock.wall())
            chunk.receipt.settle(fate.events + fate.unmatched)

    # --- the way to the lanes ---

    def flush(self) -> None:
        """What the batchers hold, whatever its size."""
        for branch in self._branches:
            if len(branch.batcher):
                self._hand_over(branch, [branch.batcher.flush()])

    def flush_due(self, now: float) -> None:
        for branch in self._branches:
            deadline = branch.batcher.deadline
            if deadline is not None and now >= deadline:
                self._hand_over(branch, [branch.batcher.flush()])

    async def room(self) -> None:
        """Wait while a lane is full: with several branches, while one lags too far behind."""
        if self._only:
            await self._only.lane.room()
            return
        while not self._stopped and any(
            branch.pending_bytes > self._max_pending_bytes and not branch.lost for branch in self._branches
        ):
            self._news = anyio.Event()
            for branch in self._branches:
                if branch.lane.idle and len(branch.batcher):  # what is to settle is not on its way yet
                    self._hand_over(branch, [branch.batcher.flush()])
            await self._news.wait()

    def wake(self) -> None:
        self._news.set()

    def stop(self) -> None:
        self._stopped = True
        self._news.set()


def bury(branch: SinkRunner, batch: Batch, detail: str) -> None:
    """Events that cannot be read again, and will not be sent in this run."""
    burials = [FailedEvent(index, Reason.INTERRUPTED, detail) for index in range(len(batch))]
    branch.recorder.resolve(batch, Outcomes(failed=burials))


def _pick(
    chosen: Positions, events: list[bytes], digests: list[bytes | None], positions: Positions
) -> tuple[list[bytes], list[bytes | None], Positions]:
    """Those at the indices ``chosen`` (ascending) of three parallel lists."""
    if len(chosen) == len(events):
        return events, digests, positions
    return (
        [events[index] for index in chosen],
        [digests[index] for index in chosen],
        [positions[index] for index in chosen],
    )
