"""Partitions of topics, from when they were recognised on: what was taken of each, and is settled."""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

from ingestd.core.chunk import Chunk
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.receipt import OrderedAcks
from ingestd.sources.broker.chunks import Cut, Cutter, Message, MessageColumns, place_of, sequence_of
from ingestd.sources.broker.source import SourceCounts
from ingestd.sources.kafka.client import NONE, TOMBSTONE, Given, Place, Start, epoch_of, is_later
from ingestd.sources.source import Position
from ingestd.store.journal import Journal

MakeCutter = Callable[[int, Sequence[Cut], Callable[[Message], str]], Cutter]


class OtherMessages(Exception):
    """The message that was read last is not what it was."""


class Partition:
    """``number``: of the source that it is to the journal. ``resolved``: the offset before which all is, and
    ``taken``: before which all was taken; ``cut_to``: before which all has become chunks that were given.
    ``mark``: of the message before it, 0 if that is not known. ``cuts``: chunks of an earlier process."""

    def __init__(
        self,
        place: Place,
        identity: bytes,
        number: int,
        offset: int,
        cuts: Sequence[Cut],
        make_cutter: MakeCutter,
        moved: Callable[["Partition", Position], None],
        mark: int = 0,
    ) -> None:
        self.place = place
        self.identity = identity
        self.number = number
        self.resolved = self.taken = self.read_to = offset
        self._taken_mark = self.last_mark = self._resolved_mark = mark
        self.ended_at = NONE
        """There was nothing more before this offset, the last time that all was read."""
        self.given = 0
        self.cut_to = offset
        self.is_assigned = False
        self.acks = OrderedAcks[Position](self.ack)
        self.cutter = make_cutter(number, cuts, self._where)
        self._again_to = self.cutter.known_to
        self._passed_before: tuple[int, int] | None = None
        self._moved = moved
        self._times: deque[tuple[int, float]] = deque()

    def _where(self, message: Message) -> str:
        topic, number = self.place
        what = f", {message.subject}" if message.subject else ""
        return f"topic {topic}, partition {number}, offset {message.sequence}{what}"

    # --- what comes ---

    def take(self, messages: MessageColumns, *, skip_tombstones: bool) -> tuple[MessageColumns | None, int]:
        """Those that were not taken before; and how many come again. Raises OtherMessages."""
        if messages.sequences[0] == self.taken - 1 and self._taken_mark:
            if messages[0].mark != self._taken_mark:
                raise OtherMessages
            messages = messages.part(1)
        self._taken_mark = 0
        if not messages:
            return None, 0
        again = bisect_left(messages.sequences, self._again_to)
        last = messages.sequences[-1]
        if last >= self._again_to:
            self._again_to = 0
        known_to = self.taken
        if last >= known_to:
            self.taken, self.last_mark = last + 1, messages[-1].mark
            self.read_to = max(self.read_to, self.taken)
        if messages.sequences[0] < known_to:
            again = bisect_left(messages.sequences, known_to)
            messages = messages.part(again)
        if messages and (before := self._passed_before):  # the log lost its end: up to there it is as it was
            offset, mark = before
            fresh = [
                at
                for at, sequence in enumerate(messages.sequences)
                if sequence >= offset or is_later(messages[at].mark, mark)
            ]
            again += len(messages) - len(fresh)
            messages = messages.pick(fresh)
        if skip_tombstones and not all(messages.payloads):
            messages = messages.pick(
                [at for at, one in enumerate(messages) if one.payload or one.subject != TOMBSTONE]
            )
        return messages if len(messages) else None, again

    def pass_gap(self) -> None:
        """What comes next is gone. Messages that came before may still wait to be taken."""
        self._taken_mark = 0

    def cut(self, messages: MessageColumns) -> Iterator[Chunk]:
        return self.cutter.cut(messages)

    def end(self, offset: int) -> Iterator[Chunk]:
        """All before the offset has come, so that the rest of a known chunk is gone."""
        self.ended_at, self.read_to = offset, max(self.read_to, offset)
        return self.cutter.end()

    def pass_over(self, before: "Partition") -> None:
        """What was read of it as it was before, and is still there."""
        self._passed_before = before.taken, before.last_mark

    # --- what is settled ---

    def noted(self, chunk: Chunk, stored_at: float) -> None:
        self._times.append((chunk.end, stored_at))

    def ack(self, position: Position) -> None:
        self.resolved = sequence_of(position.offset)
        self._resolved_mark = position.mark[0]
        while self._times and self._times[0][0] <= position.offset:
            self._times.popleft()
        self._moved(self, position)

    @property
    def oldest_stored_at(self) -> float | None:
        return self._times[0][1] if self._times else None

    @property
    def is_settled(self) -> bool:
        """All that was taken."""
        return self.acks.oldest_since is None and not self.cutter.is_waiting

    def to_commit(self) -> Start:
        """Behind what holds no event, too, as the mark of a transaction, where all before it is settled."""
        offset = self.read_to if self.is_settled and self.cut_to == self.taken else self.resolved
        return Start(offset, epoch_of(self._resolved_mark) if self._resolved_mark else NONE)

    def goes_on_at(self) -> Start:
        """At the last message that was taken, if it is known, to see whether it is still that one."""
        self._taken_mark = self.last_mark
        return Start(self.taken - 1 if self._taken_mark else self.taken)


class Partitions:
    """All that this process was ever given. ``cuts``: by number, chunks of an earlier process. ``moved`` is
    called when more of a partition is settled, ``changed`` when some came or went. ``drain_s``: how long what
    is on its way of a partition is waited for when it is given back."""

    note = ""
    """Commits of this state directory have it."""

    def __init__(
        self,
        journal: Journal,
        *,
        starts_at_end: bool,
        cuts: Callable[[int], Sequence[Cut]],
        make_cutter: MakeCutter,
        moved: Callable[[Place], None],
        changed: Callable[[], None],
        counts: SourceCounts,
        clock: Clock,
        warn: Callable[[str], None],
        drain_s: float,
    ) -> None:
        self.by_place: dict[Place, Partition] = {}
        self.awaited: set[int] = set()
        """Numbers of those that an earlier process had batches of, and the group has not given yet."""
        self._prefix = ""
        self._starts_at_end = starts_at_end
        self._journal = journal
        self._cuts = cuts
        self._make_cutter = make_cutter
        self._moved, self._changed, self._counts = moved, changed, counts
        self._acked = asyncio.Event()
        self._clock = clock
        self._warn = warn
        self._drain_s = drain_s

    def __iter__(self) -> Iterator[Partition]:
        return iter(self.by_place.values())

    async def know(self, prefix: str) -> dict[int, int]:
        """Of earlier processes, by number, the first offsets that are not settled."""
        self._prefix = prefix
        known = await self._journal.streams(prefix)
        self.awaited = {number for number in known if self._cuts(number)}
        return {number: sequence_of(position) for number, position in known.items()}

    # --- what the group says ---

    async def assigned(self, given: Sequence[Given]) -> list[Start]:
        mine = [await self._recognise(one) for one in given]
        await self._journal.commit()
        for one in mine:
            one.is_assigned = True
        self._changed()
        return [one.goes_on_at() for one in mine]

    async def revoked(self, places: Sequence[Place], *, is_lost: bool) -> dict[Place, Start]:
        """What is to be committed of them. ``is_lost``: others have them already."""
        mine = [self.by_place[place] for place in places if place in self.by_place]
        for one in mine:
            one.is_assigned = False
        self._changed()
        until = self._clock.monotonic() + (0.0 if is_lost else self._drain_s)
        while not all(one.is_settled for one in mine) and (left_s := until - self._clock.monotonic()) > 0:
            self._acked.clear()
            await wait_until_set(self._acked, left_s, self._clock)
        await self._journal.commit()
        if left := [one.place for one in mine if not one.is_settled]:
            self._warn(
                f"{_words(left)} went to another member of the group, and what is on its way of it after"
                f" {self._drain_s:g} s (delivery.shutdown_timeout) is delivered by both"
            )
        return {} if is_lost else {one.place: one.to_commit() for one in mine}

    async def out_of_range(self, place: Place, offset: int, first: int) -> Start:
        """The broker does not have the message at ``offset``, which comes next; ``first``: what it has."""
        one = self.by_place[place]
        if max(offset, one.taken) <= first:
            if lost := first - max(offset, one.taken):
                self._counts.lost += lost
                self._warn(
                    f"{_words([place])} has lost at most {lost} messages, offsets {first - lost} to"
                    f" {first - 1}, deleted before they were read: the topic's retention is too short"
                )
            one.pass_gap()
            one.is_assigned = True
            return Start(first)
        self._warn(
            f"{_words([place])} has other messages now than were read, up to offset {offset}: it lost its end"
            " (a power cut, an unclean election?), or is an older copy; what came since is read"
        )
        new = await self._again(place, one.identity, first)
        new.is_assigned = True
        new.pass_over(one)
        return Start(first)

    # --- which partition it is ---

    async def _recognise(self, given: Given) -> Partition:
        """What this process has in its lanes goes on where it was; else the journal says where, unless
        another has committed since."""
        identity = blake2b(given.identity.encode(), digest_size=16).digest()
        own = given.committed < 0 or given.note == self.note
        one = self.by_place.get(given.place)
        if one and one.identity == identity and own:
            return one
        state = await self._journal.find_stream(self._path(given.place), identity, now=self._clock.wall())
        self.awaited.discard(state.number)
        position, is_known = sequence_of(state.position), state.position > 0
        if is_known and not own:
            self._warn(
                f"{_words([given.place])} is read from offset {given.committed}, which another member of the"
                f" group has committed, or somebody has set; it was read here to {position}"
            )
            return await self._again(given.place, identity, given.committed)
        if is_known:
            mark = state.mark[0] if position >= given.committed else 0
            return self._put(given.place, identity, state.number, max(position, given.committed), mark)
        offset = given.committed
        if offset < 0:
            offset = given.last if self._starts_at_end else given.first
        one = self._put(given.place, identity, state.number, offset)
        self._journal.moved(one.number, place_of(offset), 1)
        if given.committed < 0:
            self._moved(one.place)
        return one

    async def _again(self, place: Place, identity: bytes, offset: int) -> Partition:
        """It is another source to the journal: its offsets do not mean what they did."""
        path, now = self._path(place), self._clock.wall()
        state = await self._journal.find_stream(path, identity, now=now, as_new=True)
        self._journal.moved(state.number, place_of(offset), 1)
        return self._put(place, identity, state.number, offset)

    def _path(self, place: Place) -> str:
        return f"{self._prefix}{place[0]}, partition {place[1]}"

    def _put(self, place: Place, identity: bytes, number: int, offset: int, mark: int = 0) -> Partition:
        cuts = self._cuts(number)
        one = Partition(place, identity, number, offset, cuts, self._make_cutter, self._settled, mark)
        self.by_place[place] = one
        return one

    def _settled(self, one: Partition, position: Position) -> None:
        self._journal.moved(one.number, position.offset, position.next_line, position.mark)
        self._acked.set()
        if self.by_place.get(one.place) is one:
            self._moved(one.place)


def _words(places: Sequence[Place]) -> str:
    return ", ".join(f"partition {number} of topic {topic}" for topic, number in sorted(places))
