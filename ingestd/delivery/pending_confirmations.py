"""How many events wait for an API to say what became of them. Made in ``open_sinks.py``."""

import asyncio


class PendingConfirmations:
    """How many events an API has accepted and has yet to say what became of: the recorder adds to them, the
    poller takes them out, the lane sends nothing while there is no room for more.

    ``none_left`` is set while there are none; ``changed`` when some were added.
    """

    def __init__(self, max_pending: int) -> None:
        self.count = 0
        self.none_left, self.changed = asyncio.Event(), asyncio.Event()
        self.none_left.set()
        self._max_pending = max_pending

    @property
    def full(self) -> bool:
        return self.count >= self._max_pending

    def add(self, events: int) -> None:
        if events:
            self.count += events
            self.none_left.clear()
            self.changed.set()

    def take_one(self) -> bool:
        """What became of one of them is known. True: there is room again."""
        was_full = self.full
        self.count -= 1
        if self.count == 0:
            self.none_left.set()
        return was_full and not self.full
