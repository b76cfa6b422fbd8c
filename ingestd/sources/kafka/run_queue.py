"""The runs of messages that have come of all partitions, and are not cut yet."""

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator
from itertools import accumulate

from ingestd.sources.kafka.client import TopicPart
from ingestd.sources.kafka.runs import LogColumns, Run, run_of_columns

_MAX_BYTES = 4 * 1024 * 1024
"""A list more may be on its way from the thread of the group."""


class RunQueue:
    def __init__(self) -> None:
        self._runs = deque[Run]()
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    @property
    def has_room(self) -> bool:
        return self.size_bytes < _MAX_BYTES

    def add(self, runs: Collection[Run]) -> None:
        self._runs += runs
        self.size_bytes += sum(run.size_bytes for run in runs)

    def keep_only(self, places: Collection[TopicPart]) -> None:
        """What is of other partitions goes."""
        self._runs = deque(run for run in self._runs if run.place in places)
        self.size_bytes = sum(run.size_bytes for run in self._runs)

    def clear(self) -> None:
        self._runs.clear()
        self.size_bytes = 0

    def next(self, most: int, most_bytes: int) -> Run:
        """As much as a chunk may have, of the first one and of those that follow it by now: a list ends
        anywhere, and each chunk has its price. What is left stays the first one. ``most``: messages."""
        found = self._joined(most, most_bytes)
        self.size_bytes -= found.size_bytes
        return found

    def _joined(self, most: int, most_bytes: int) -> Run:
        waiting = self._runs
        runs = [first := waiting.popleft()]
        if first.messages is None:
            return first
        messages = first.messages
        count, size_bytes = len(messages), messages.size_bytes
        while count < most and size_bytes < most_bytes and waiting and _follows(waiting[0], runs[-1]):
            runs.append(waiting.popleft())
            if more := runs[-1].messages:
                count, size_bytes = count + len(more), size_bytes + more.size_bytes
        if len(runs) > 1:
            messages = LogColumns.joined([run.messages for run in runs if run.messages is not None])
        if count > 1 and (count > most or size_bytes > most_bytes):
            ends = [*accumulate(map(len, messages.payloads), initial=0)]
            last = min(most, max(1, bisect_right(ends, most_bytes) - 1))
            messages, left = messages.part(0, last), messages.part(last)
            waiting.appendleft(run_of_columns(first.place, left))
        elif len(runs) == 1:
            return first
        return run_of_columns(first.place, messages)


def _follows(run: Run, before: Run) -> bool:
    """Whether these messages come after those, of the same partition."""
    if run.messages is None or before.messages is None or run.place != before.place:
        return False
    return run.messages.sequences[0] > before.messages.sequences[-1]
