"""Partitions that no member of the group has, for longer than a rebalance takes: a member joins again.

With cooperative-sticky a partition changes hands in two rebalances, and the second is asked for by the member
that gave it back. Where that one is killed before it asks, and is back within its session as the static
member that it was, it has what it kept, nobody asks, and the group is at rest without the partition.
"""

import asyncio
from collections.abc import Callable

from ingestd.core.clock import Clock
from ingestd.sources.kafka.admin import Admin
from ingestd.sources.kafka.group import Group
from ingestd.sources.kafka.settings import KafkaConfig


class Unowned:
    """``drain_s``: how long a member may take to give a partition back; ``for_s``: see ``Bounds.unowned_s``.
    ``warn``: that it joins again."""

    def __init__(
        self,
        settings: KafkaConfig,
        clock: Clock,
        *,
        drain_s: float,
        for_s: float,
        warn: Callable[[str], None],
    ) -> None:
        self._is_possible = settings.static_member and settings.protocol == "classic"
        self._clock = clock
        self._drain_s = drain_s
        self._for_s = for_s
        self._warn = warn
        self._since: float | None = None

    async def look(self, group: Group, admin: Admin) -> None:
        """Called every few seconds."""
        if self._is_possible and self.is_over(
            await asyncio.to_thread(admin.unowned), has_some=bool(group.places)
        ):
            group.join_again()

    def is_over(self, unowned: int, *, has_some: bool) -> bool:
        """Whether it is time to join again; at most once in that time."""
        now = self._clock.monotonic()
        if not unowned or self._since is None:
            self._since = now if unowned else None
            return False
        if now - self._since < self._drain_s + self._for_s * (2 if has_some else 1):
            return False
        self._since = None
        self._warn(f"the group has {unowned} partitions that no member reads; this one joins it again")
        return True
