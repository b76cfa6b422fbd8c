"""How much of the partitions is there to be read, and how much of it is on its way."""

import asyncio
from collections.abc import Callable, Mapping

from ingestd.core.clock import Clock
from ingestd.sources.broker.source import SourceCounts
from ingestd.sources.kafka.admin import Admin
from ingestd.sources.kafka.client import TopicPart
from ingestd.sources.kafka.group import Group
from ingestd.sources.kafka.partitions import Partitions
from ingestd.sources.kafka.unowned import Unowned

_EVERY_S = 5.0


class Measuring:
    """``run`` until cancelled. ``now``: the session, while there is one. ``on_problem`` is called with what
    is wrong where brokers are away, and with nothing when they answer: the thread of the group does not see
    the one while it waits for a commit, nor the other where no message comes."""

    def __init__(
        self,
        now: Callable[[], tuple[Group, Admin] | None],
        partitions: Partitions,
        counts: SourceCounts,
        *,
        unowned: Unowned,
        on_problem: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self._now = now
        self._partitions = partitions
        self._counts = counts
        self._unowned = unowned
        self._on_problem = on_problem
        self._away = ""
        self._clock = clock

    async def run(self) -> None:
        while True:
            if session := self._now():
                group, admin = session
                found = await asyncio.to_thread(admin.offsets, group.places)
                count(found, self._partitions, self._counts)
                if session != self._now():
                    continue
                if admin.unreached:
                    self.on_away(admin.unreached)
                elif found and self._away and self._counts.problem == self._away:
                    self._on_problem("")
                await self._unowned.look(group, admin)
            await self._clock.sleep(_EVERY_S)

    def on_away(self, text: str) -> None:
        """A broker is not reached. Told once until one is: the library says it at each try, in turns of
        words."""
        if not self._counts.problem:
            self._away = text
            self._on_problem(text)


def count(found: Mapping[TopicPart, tuple[int, int]], partitions: Partitions, counts: SourceCounts) -> None:
    """``found``: first and last offset that the brokers have; empty where they did not say."""
    mine = partitions.by_place
    known = [(mine[place], *bounds) for place, bounds in found.items() if place in mine]
    if known or not any(one.is_assigned for one in partitions):
        counts.pending = sum(max(0, last - one.read_to) for one, _, last in known)
        mine_open = [one for one, _, _ in known if not one.is_settled]
        counts.unacked = sum(max(0, one.consumed - one.resolved) for one in mine_open)
        counts.stranded = sum(max(0, first - one.read_to) for one, first, _ in known)
