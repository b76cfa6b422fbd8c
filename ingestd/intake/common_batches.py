"""Batches of sinks that take the same events under the same limits: cut once, and with bodies in common."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from ingestd.core.chunk import Batch, Chunk
from ingestd.core.receipt import Digests, Positions
from ingestd.core.shared_body import Frame, SharedBodies
from ingestd.delivery.queues import Batcher
from ingestd.delivery.sink_runner import SinkRunner

_MAX_KEPT_BYTES = 4 * 1024 * 1024
"""Of bodies that one sink has sent, or is about to, and another has not: lanes in step need a few."""


class CommonBatches:
    """Of ``sinks``, while they ``serve``: a body limit that one has learned ends it for good."""

    def __init__(
        self, sinks: Sequence[SinkRunner], batchers: Sequence[Batcher], frames: Sequence[Frame]
    ) -> None:
        self.sinks = sinks
        self._batchers = batchers
        self._first = min(batchers, key=lambda one: one.max_event_bytes)  # its frame is the longest
        self._batcher = self._first.sibling()
        self._bodies = SharedBodies(frames, max_bytes=_MAX_KEPT_BYTES)

    @property
    def serve(self) -> bool:
        limits = self._batchers[0].limits
        return all(one.limits == limits for one in self._batchers)

    @property
    def deadline(self) -> float | None:
        """When the open batch is due by age; None while it is empty."""
        return self._batcher.deadline

    def add(
        self, chunk: Chunk, events: Sequence[bytes], digests: Digests, positions: Positions, now: float
    ) -> list[list[Batch]]:
        """For each sink the batches that are full with these events of a chunk."""
        return self._for_each([*self._batcher.add(chunk, events, digests, positions, now)])

    def flush(self) -> list[list[Batch]]:
        """For each sink the open batch."""
        return self._for_each([self._batcher.flush()])

    def _for_each(self, cut: list[Batch]) -> list[list[Batch]]:
        found: list[list[Batch]] = [[] for _ in self.sinks]
        for one in cut:
            for mine, batcher, body in zip(found, self._batchers, self._bodies.share(), strict=True):
                batch = one if batcher is self._first else batcher.same_as(one)
                batch.shared = body
                mine.append(batch)
        return found


def common_batches(sinks: Sequence[SinkRunner]) -> CommonBatches | None:
    """Of those of the sinks that can have them, if these are several; of several such groups the first."""
    able = []
    for sink in sinks:
        frame: Frame | None = getattr(sink.sink, "frame", None)
        if frame and isinstance(sink.batcher, Batcher) and not sink.transforms:
            able.append((sink.batcher.limits, sink, sink.batcher, frame))
    able.sort(key=itemgetter(0))
    for _, group in groupby(able, key=itemgetter(0)):
        _, runners, batchers, frames = zip(*group, strict=True)
        if len(runners) > 1 and batchers[0].limits[1] > 1 and SharedBodies.can(frames):
            return CommonBatches(runners, batchers, frames)
    return None
