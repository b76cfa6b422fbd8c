"""Admission at an edge: what producers submit, through validation, into the stream of their partition.

It stands where ``intake/admission.py`` stands in a process of its own. An answer goes out when the server has
said of every chunk that it is stored. Without that word a chunk is sent again under its id; when time is over
the producer is told to come again, and its copies are known by the owners of the shares. An edge remembers no
keys: they would be a second truth, and nobody tells it of a key that is free again.
"""

import asyncio
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import accumulate

import msgspec

from ingestd.cluster import chunk_message, letter_stream
from ingestd.cluster.event_splitter import EventSplitter
from ingestd.cluster.group_keys import GroupKeys
from ingestd.cluster.link import FULL, JetStreamLink
from ingestd.cluster.names import StreamNames
from ingestd.cluster.stream_room import StreamRoom
from ingestd.core.chunk import size_of
from ingestd.core.clock import Clock, Timer
from ingestd.core.reasons import Reason
from ingestd.core.receipt import Digests
from ingestd.core.sequences import pick
from ingestd.core.submission import DeferredSubmission, SubmissionOutcome
from ingestd.intake.admission_queue import Accepted, AdmissionQueue
from ingestd.intake.submission_group import SubmissionGroup
from ingestd.processing.validate import Validator
from ingestd.recording.event_recorder import EventTrace
from ingestd.sources.nats.connection import JetStreamError, NatsMessage

MAX_CHUNK_BYTES = 256 * 1024
MAX_GROUP_BYTES = 1024 * 1024
_MOST_GROUPS = 2
"""On their way at a time. What arrives meanwhile goes together: a large chunk costs less than many."""
_MEANWHILE_S, _LINGER_S = 0.1, 0.001
_SEVERAL = 4
"""For so long what arrives waits for more where chunks would be small: while a group is on its way, and
behind one of several requests, whose producers have just been answered and may have more."""
_AWAY_S, _FULL_S, _CLOSING_S = 5, 30, 1


ChunkPart = tuple[int, Sequence[bytes], Digests]
"""(partition, events, digests) of a chunk to be."""


class EdgeCounts(msgspec.Struct):
    """Events since the process began. ``duplicate``: those that are seen here, within one group."""

    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    chunks: int = 0
    again: int = 0
    """Chunks that the server had already: its first answer was lost."""


class EdgeAdmission(AdmissionQueue):
    """An ``AdmissionService`` of the endpoint. ``edge``: a name that no other process has, also none before
    it. ``within_s``: how long a chunk is tried to be stored; ``accepted`` is called with the new events of
    each submission."""

    def __init__(
        self,
        link: JetStreamLink,
        names: StreamNames,
        *,
        edge: str,
        secret: bytes,
        splitter: Callable[[], EventSplitter],
        validator: Validator,
        max_event_bytes: int,
        max_unanswered_bytes: int,
        keep_rejected: bool,
        accepted: Accepted,
        clock: Clock,
        within_s: float = 10.0,
        trace: EventTrace | None = None,
    ) -> None:
        super().__init__(
            validator=validator,
            max_event_bytes=max_event_bytes,
            max_unanswered_bytes=max_unanswered_bytes,
            keep_rejected=keep_rejected,
            accepted=accepted,
            trace=trace,
            clock=clock,
            most_bytes=MAX_GROUP_BYTES,
        )
        self.counts = EdgeCounts()
        self.closing = False
        self.room = StreamRoom(names, clock, chunk_bytes=MAX_CHUNK_BYTES)
        self._link = link
        self._names = names
        self._edge = edge
        self._group_keys = GroupKeys(secret)
        self._splitter = splitter
        self._within_s = within_s
        self._number = 0
        # A chunk that has to be sent again must not come behind one with later events of its order keys.
        self._turn = asyncio.Lock()
        self._ordered = splitter().keeps_order
        self._storing: set[asyncio.Task[None]] = set()
        self._wakes: Timer | None = None  # while what arrives waits for more

    def _refusal(self, size_bytes: int) -> DeferredSubmission | None:
        if self.closing:
            return DeferredSubmission(503, _CLOSING_S, "this process is shutting down: send it again")
        if self._link.connection is None:
            return DeferredSubmission(503, _AWAY_S, "the spool of this service is out of reach: try again")
        return self._stalled(size_bytes, "the spool is slower than what arrives")

    def _is_full(self) -> bool:
        if len(self._storing) >= _MOST_GROUPS:
            return True
        least_bytes = min(MAX_CHUNK_BYTES * self._splitter().partitions, MAX_GROUP_BYTES)
        return self._arrived_bytes < least_bytes and self._wakes is not None

    def _wait(self, seconds: float) -> None:
        """What arrives from now on waits for more."""
        if self._wakes:
            self._wakes.cancel()
        self._wakes = self._clock.call_later(seconds, self._wake) if seconds else None

    def _wake(self) -> None:
        self._wakes = None
        self._schedule()

    def _store(self, group: SubmissionGroup) -> None:
        self._wait(_MEANWHILE_S)
        task = asyncio.get_running_loop().create_task(self._store_parts(group), name="store a group")
        self._storing.add(task)
        task.add_done_callback(partial(self._stored, group))

    async def _store_parts(self, group: SubmissionGroup) -> None:
        """Every chunk of it, each in its partition; then the answers. A part that is stored when another is
        not stays there: the producer is told to come again, and what it sends then are copies."""
        parts = group.claim(self._keys(), self._clock.monotonic(), max_bytes=sys.maxsize)
        chunks = [chunk for part in parts for chunk in self._cut(part[1], part[2])]
        refused = [self._letter(*one) for one in group.rejected.events] if self.keep_rejected else []
        if failed := await self._append(chunks, refused):
            self._refuse(group, failed)
        else:
            if self._trace and self._trace.tap.open:
                self._trace.submitted([part[1] for part in parts], group.copies, group.rejected.events)
            self._answer(group)

    def _keys(self) -> GroupKeys:
        return self._group_keys

    def _cut(self, events: Sequence[bytes], digests: Digests) -> Iterator[ChunkPart]:
        """By partition, in chunks of at most ``MAX_CHUNK_BYTES``, or of one event."""
        for partition, positions in self._splitter().split(events, digests).items():
            mine, keys = pick(events, positions), pick(digests, positions)
            if size_of(mine) <= MAX_CHUNK_BYTES:
                yield partition, mine, keys
                continue
            sizes = [*accumulate(map(len, mine))]
            first = before = 0
            while first < len(sizes):
                end = max(first + 1, bisect_right(sizes, before + MAX_CHUNK_BYTES))
                yield partition, mine[first:end], keys[first:end]
                first, before = end, sizes[end - 1]

    async def _append(self, chunks: Sequence[ChunkPart], letters: Sequence[NatsMessage]) -> Exception | None:
        """All of them together; where there is an order, no two of one partition. Why that failed, if it
        did."""
        rounds: list[list[NatsMessage]] = [[*letters]]
        before = Counter[int]()
        for partition, events, digests in chunks:
            number = before[partition] if self._ordered else 0
            before[partition] += 1
            rounds += [[] for _ in range(number - len(rounds) + 1)]
            rounds[number].append(self._message(partition, events, digests))
        async with self._turn if self._ordered else nullcontext():
            for messages in rounds:
                found = await self._link.append_all(messages, within_s=self._within_s)
                for (_, _, headers), answer in zip(messages, found, strict=True):
                    if isinstance(answer, dict) and headers and chunk_message.EVENTS in headers:
                        self.counts.chunks += 1
                        self.counts.again += bool(answer.get("duplicate"))
                if failed := next((one for one in found if isinstance(one, Exception)), None):
                    return failed
        return None

    def _message(self, partition: int, events: Sequence[bytes], digests: Digests) -> NatsMessage:
        headers = {chunk_message.ID: self._id(), chunk_message.EVENTS: str(len(events))}
        return self._names.partition(partition), chunk_message.encode(events, digests), headers

    def _letter(self, payload: bytes, reason: Reason, detail: str, producer: str) -> NatsMessage:
        headers = {chunk_message.ID: self._id()}
        packed = letter_stream.refused_letter(
            payload,
            reason,
            detail,
            producer=producer,
            at=self._clock.wall(),
            edge=self._edge,
            number=self._number,
        )
        return letter_stream.address(self._names, packed)[0], packed, headers

    def _id(self) -> str:
        self._number += 1
        return f"{self._edge}-{self._number}"

    def _refuse(self, group: SubmissionGroup, error: Exception) -> None:
        if isinstance(error, JetStreamError) and error.code in FULL:
            self.room.refused()
            whose = f", most of it waits for {self.room.filled_by}" if self.room.filled_by else ""
            deferred = DeferredSubmission(503, _FULL_S, f"the spool is full{whose}: try again later")
        else:
            deferred = DeferredSubmission(503, _AWAY_S, "the spool did not answer in time: send it again")
        for submission in group.submissions:
            self._defer(submission, deferred)

    def _answer(self, group: SubmissionGroup) -> None:
        for number, submission in enumerate(group.submissions):
            result = group.result(number)
            self.counts.stored += result.accepted
            self.counts.duplicate += result.duplicates
            self.counts.rejected += len(result.rejected) + result.unlisted
            self._accepted(submission.producer, result.accepted)
            if submission.wait_s > 0 and result.stored:  # what becomes of them is known elsewhere
                result = result._replace(ends=SubmissionOutcome(0, 0, result.accepted))
            submission.answer(result)

    def _stored(self, group: SubmissionGroup, task: asyncio.Task[None]) -> None:
        self._storing.discard(task)
        if not self._storing:
            self._wait(_LINGER_S if len(group.submissions) >= _SEVERAL else 0.0)
        self._unanswered_bytes -= group.size_bytes
        self._go_on(storing=bool(self._storing))
        task.result()  # a fault of ours is not kept quiet
