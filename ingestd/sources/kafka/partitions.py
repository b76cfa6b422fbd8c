"""The partitions of topics that the group gives to this process, and takes from it.

Which is which the journal tells, unless another member has committed since.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

from ingestd.core.clock import Clock, wait_until_set
from ingestd.sources.broker.chunks import KnownCut
from ingestd.sources.broker.messages import place_of, sequence_of
from ingestd.sources.broker.source import SourceCounts
from ingestd.sources.kafka.client import Given, Start, TopicPart
from ingestd.sources.kafka.heirs import Heirs
from ingestd.sources.kafka.note import NOTHING_NAMED, Note, read_note
from ingestd.sources.kafka.partition import MakeCutter, Partition, words_of
from ingestd.sources.kafka.runs import without_time
from ingestd.sources.kafka.takeover import Takeover
from ingestd.sources.source import Position
from ingestd.store.journal import Journal

_OF_TOPIC = ", partition "
"""Before the number, in a partition's name for the journal."""
_ASSIGNMENT_TIMEOUT_S = 30.0
"""How long to wait for partitions that an earlier process had batches of, once others are given."""


class Partitions:
    """All that this process was ever given. ``cuts``: by number, chunks of an earlier process. ``moved`` is
    called when more of a partition is settled, ``changed`` when some came or went. ``drain_s``: how long what
    is on its way of a partition is waited for when it is given back. ``heirs``: learn which numbers are not
    used any more. ``takeover``: tells the next owner what is on its way, and finds what the last one
    told; None: nobody does."""

    note = ""
    """Commits of this state directory have it."""

    def __init__(
        self,
        journal: Journal,
        *,
        starts_at_end: bool,
        cuts: Callable[[int], Sequence[KnownCut]],
        make_cutter: MakeCutter,
        moved: Callable[[TopicPart], None],
        changed: Callable[[], None],
        counts: SourceCounts,
        clock: Clock,
        warn: Callable[[str], None],
        drain_s: float,
        heirs: Heirs,
        takeover: Takeover | None,
    ) -> None:
        self.by_place: dict[TopicPart, Partition] = {}
        self.awaited: set[int] = set()
        """Numbers of those that an earlier process had batches of, and the group has not given yet."""
        self._assigned_at = 0.0
        self._begun: set[str] = set()
        """Topics of which this state directory had partitions, or the group an offset: what they get later is
        read from its first message, for the library finds it only after messages came."""
        self._left: dict[str, set[int]] = {}
        """By name of a partition the numbers that it had, as far as there are batches of them."""
        self._prefix = ""
        self._starts_at_end = starts_at_end
        self._journal = journal
        self._cuts = cuts
        self._make_cutter = make_cutter
        self._moved = moved
        self._changed = changed
        self._counts = counts
        self._acked = asyncio.Event()
        self._clock = clock
        self._warn = warn
        self._drain_s = drain_s
        self._heirs = heirs
        self.takeover = takeover

    def __iter__(self) -> Iterator[Partition]:
        return iter(self.by_place.values())

    async def know(self, prefix: str) -> dict[int, int]:
        """Of earlier processes, by number, the first offsets that are not settled."""
        self._prefix = prefix
        known = await self._journal.streams(prefix)
        self.awaited = {number for number in known if self._cuts(number)}
        for number in self.awaited:
            self._left.setdefault(known[number][0], set()).add(number)
        self._begun = {path.removeprefix(prefix).rpartition(_OF_TOPIC)[0] for path, _ in known.values()}
        return {number: sequence_of(position) for number, (_, position) in known.items()}

    # --- what an earlier process had on its way ---

    @property
    def is_recovering(self) -> bool:
        """Whether messages of its batches are still to come."""
        if self.awaited and self.is_impatient:
            self.awaited.clear()
        return bool(self.awaited) or any(one.is_assigned and one.cutter.known_to for one in self)

    @property
    def is_impatient(self) -> bool:
        """Those that are awaited would have been given by now."""
        return 0 < self._assigned_at < self._clock.monotonic() - _ASSIGNMENT_TIMEOUT_S

    # --- what the group says ---

    async def assigned(self, given: Sequence[Given]) -> list[Start]:
        self._begun.update(one.place[0] for one in given if one.committed >= 0)
        mine = [await self._recognise(one) for one in given]
        self._begun.update(one.place[0] for one in mine)
        await self._journal.commit()
        for one in mine:
            one.is_assigned = True
            if one.named:
                one.named.is_owned = True
        self._assigned_at = self._assigned_at or self._clock.monotonic()
        self._changed()
        return [one.goes_on_at() for one in mine]

    async def revoked(self, places: Sequence[TopicPart], *, is_lost: bool) -> dict[TopicPart, Start]:
        """What is to be committed of them. ``is_lost``: others have them already."""
        mine = [self.by_place[place] for place in places if place in self.by_place]
        for one in mine:
            one.is_assigned, one.is_leaving = False, not is_lost
        self._changed()
        until = self._clock.monotonic() + (0.0 if is_lost else self._drain_s)
        while not all(one.is_settled for one in mine) and (left_s := until - self._clock.monotonic()) > 0:
            self._acked.clear()
            await wait_until_set(self._acked, left_s, self._clock)
        starts = [] if is_lost else [(one.place, self.start_of(one)) for one in mine]
        due = {place: start for place, start in starts if start}
        for one in mine:
            one.is_leaving = False
            if one.named:
                one.named.close()
        await self._journal.commit()
        if left := [one.place for one in mine if not one.is_settled]:
            self._warn(
                f"{words_of(left)} went to another member of the group, and what is on its way of it after"
                f" {self._drain_s:g} s (delivery.shutdown_timeout) is delivered by both"
            )
        return due

    def start_of(self, one: Partition) -> Start | None:
        """What is to be committed of it now; see ``Takeover.start_of``."""
        if self.takeover:
            return self.takeover.start_of(one, self.note)
        return one.to_commit()._replace(note=self.note)

    async def out_of_range(
        self, place: TopicPart, offset: int | None, first: int, last: int, cut: int | None = None
    ) -> Start:
        """The broker does not have the message at ``offset``, which comes next, or not what came before it:
        see ``client.cut_at``. ``first``, ``last``: what it has."""
        one = self.by_place[place]
        if (behind := max(offset or 0, one.consumed)) <= first:
            if lost := first - behind:
                self._counts.lost += lost
                self._warn(
                    f"{words_of([place])} has lost at most {lost} messages, offsets {first - lost} to"
                    f" {first - 1}, deleted before they were read: the topic's retention is too short"
                )
            one.pass_gap()
            one.is_assigned = True
            return Start(first)
        one.is_assigned = False
        self._changed()  # what waits may be of the end that was lost
        start = one.looks_back(cut, first, last)
        if start is None:
            start = await self._read_again(one, first)
        self.by_place[place].is_assigned = True
        self._changed()
        return start

    async def _read_again(self, one: Partition, first: int) -> Start:
        self._warn(
            f"{one.words} has other messages now than were read, up to offset {one.consumed}: it lost its"
            " end (a power cut, an unclean election?), or is an older copy; what came since is read"
        )
        new = await self._again(one.place, one.identity, first)
        new.pass_over(one)
        return Start(first)

    # --- which partition it is ---

    async def _recognise(self, given: Given) -> Partition:
        """What this process has in its lanes goes on where it was; else the journal says where, unless
        another has committed since."""
        identity = blake2b(given.identity.encode(), digest_size=16).digest()
        note = read_note(given.note, max(0, given.epoch or 0))
        own = given.committed < 0 or note.owner == self.note
        one = self.by_place.get(given.place)
        if one and one.identity == identity and own:
            return one
        state = await self._journal.find_stream(self._path(given.place), identity, now=self._clock.wall())
        was_awaited = state.number in self.awaited
        self.awaited.discard(state.number)
        position = sequence_of(state.position)
        is_known = position > 0 or bool(self._cuts(state.number))
        if is_known and not own:
            self._warn(
                f"{words_of([given.place])} is read from offset {given.committed}, which another member of"
                f" the group has committed, or somebody has set; it was read here to {position}"
            )
            return await self._again(given.place, identity, given.committed, note, _mark_before(given))
        if is_known:
            mark = state.mark[0] if position >= given.committed else 0
            if position <= given.committed:
                mark = mark or _mark_before(given)
            at = max(position, given.committed)
            return self._put(given.place, identity, state.number, at, note, mark, is_known=was_awaited)
        offset = given.committed
        if offset < 0:
            is_new_topic = given.place[0] not in self._begun
            offset = given.last if self._starts_at_end and is_new_topic else given.first
        one = self._put(given.place, identity, state.number, offset, note, _mark_before(given), is_new=True)
        self._journal.moved(one.number, place_of(offset), 1)
        if given.committed < 0:
            self._moved(one.place)
        return one

    async def _again(
        self, place: TopicPart, identity: bytes, offset: int, note: Note = NOTHING_NAMED, mark: int = 0
    ) -> Partition:
        """It is another source to the journal: its offsets do not mean what they did."""
        path, now = self._path(place), self._clock.wall()
        state = await self._journal.find_stream(path, identity, now=now, as_new=True)
        self._journal.moved(state.number, place_of(offset), 1)
        return self._put(place, identity, state.number, offset, note, mark, is_new=True)

    def _path(self, place: TopicPart) -> str:
        return f"{self._prefix}{place[0]}{_OF_TOPIC}{place[1]}"

    def _put(
        self,
        place: TopicPart,
        identity: bytes,
        number: int,
        offset: int,
        note: Note,
        mark: int = 0,
        *,
        is_new: bool = False,
        is_known: bool = False,
    ) -> Partition:
        """``is_new``: to the journal, so that the ``note`` tells of it. ``is_known``: it waits for what an
        earlier process had of it."""
        self._supersede(place, number, note if is_new else NOTHING_NAMED)
        takeover, before = self.takeover, self.by_place.get(place)
        cuts = note.cuts() if takeover and is_new else self._cuts(number)
        one = Partition(place, identity, number, offset, cuts, self._make_cutter, self._settled, mark)
        if takeover:
            if before:
                takeover.forget(before)
            takeover.begin(one, note, is_new=is_new, is_known=is_known)
        self.by_place[place] = one
        return one

    def _supersede(self, place: TopicPart, number: int, note: Note) -> None:
        """Batches of numbers that it had before are not found any more: their events come under this one, and
        must not wait as copies of themselves, for what is behind them would go first."""
        numbers = self._left.setdefault(self._path(place), set())
        for old in sorted(numbers - {number}):
            self.awaited.discard(old)
            self._journal.superseded(old)
            self._heirs.superseded(old, {one.id for one in note.batches(number) if not one.settled})
        self._left[self._path(place)] = {number}

    def _settled(self, one: Partition, position: Position) -> None:
        self._journal.moved(one.number, position.offset, position.next_line, position.mark)
        self._acked.set()
        if self.by_place.get(one.place) is one:
            self._moved(one.place)


def _mark_before(given: Given) -> int:
    """Of the last message before the committed offset. 0: that is not known."""
    is_known = given.committed > 0 and given.epoch is not None and given.epoch >= 0
    return without_time(given.epoch or 0) if is_known else 0
