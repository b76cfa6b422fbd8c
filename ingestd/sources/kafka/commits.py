"""When offsets are committed: soon after something was settled; at once when a batch waits to be named."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ingestd.core.clock import Clock, wait_until_set
from ingestd.sources.kafka.client import Start, TopicPart
from ingestd.sources.kafka.partitions import Partitions
from ingestd.store.connection import StoreFailed
from ingestd.store.journal import Journal

if TYPE_CHECKING:
    from ingestd.sources.kafka.group import Group

_EVERY_S = 0.1
"""As often as the group makes those that nobody waits for."""


class Commits:
    """``run`` until cancelled. ``group``: the one that makes them, while there is one."""

    partitions: Partitions

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self.group: Group | None = None
        self._journal = journal
        self._clock = clock
        self._moved: set[TopicPart] = set()
        self._is_urgent = False
        self._news, self._urged = asyncio.Event(), asyncio.Event()

    def moved(self, place: TopicPart) -> None:
        self._moved.add(place)
        self._news.set()

    def changed(self, place: TopicPart, urgent: bool) -> None:
        """What is on its way of it. ``urgent``: a batch waits to be named."""
        if urgent:
            self._is_urgent = True
            self._urged.set()
        self.moved(place)

    def made(self, starts: Mapping[TopicPart, Start]) -> None:
        for place, start in starts.items():
            one = self.partitions.by_place.get(place)
            if one and one.named:
                one.named.announced(start.announced)
                if len(start.announced) < len(one.named.open):
                    self.moved(place)

    def note_refused(self, place: TopicPart) -> None:
        if self.partitions.takeover:
            self.partitions.takeover.refused()
            self.changed(place, True)

    async def run(self) -> None:
        while True:
            if not self._moved:
                self._news.clear()
                await self._news.wait()
            try:
                await self.commit()
            except StoreFailed:
                return
            if not self._is_urgent:
                self._urged.clear()
                await wait_until_set(self._urged, _EVERY_S, self._clock)

    async def commit(self) -> None:
        """What is settled becomes durable here first: a dead letter, and that a batch was delivered."""
        moved, self._moved = self._moved, set()
        urgent, self._is_urgent = self._is_urgent, False
        parts = [one for place in moved if (one := self.partitions.by_place.get(place))]
        mine = [one for one in parts if one.is_assigned or one.is_leaving]
        starts = [(one, start) for one in mine if (start := self.partitions.start_of(one))]
        await self._journal.commit()
        due = {
            one.place: start
            for one, start in starts
            if self.partitions.by_place[one.place] is one and (one.is_assigned or one.is_leaving)
        }
        if due and self.group:
            self.group.commit(due, urgent=urgent)
