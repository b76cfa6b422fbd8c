"""What is resolved of a batch of which not all is delivered, by the chunks that its events came from. Called
by ``sink_recorder.py``."""

from collections.abc import Iterator, Sequence

from ingestd.core.chunk import Batch, Segment, pick_segments
from ingestd.core.letter import Failures
from ingestd.core.receipt import Digests
from ingestd.core.sequences import pick
from ingestd.delivery.recorder import Outcomes
from ingestd.recording.make_letters import letters_of_batch

SegmentOutcome = tuple[Segment, Digests, Failures, Sequence[int]]
"""Events of a chunk that are resolved, the keys of those that have not failed, those that failed, and the
positions of those that were dropped."""


def segment_outcomes(batch: Batch, outcomes: Outcomes, *, sink: str) -> Iterator[SegmentOutcome]:
    """What is resolved of a batch, by the chunks that its events came from."""
    lost = letters_of_batch(batch, outcomes.failed, sink=sink)
    if not outcomes.delivered and not outcomes.dropped:  # as where an answer refuses all
        for segment, _, some in lost:
            yield segment, (), Failures(segment.positions, some), ()
        return
    letters = {index: one for _, at, some in lost for index, one in zip(at, some, strict=True)}
    dropped = set(outcomes.dropped)
    indices = sorted([*outcomes.delivered, *letters, *dropped])
    at = 0
    for segment in pick_segments(batch.segments, indices):
        mine = indices[at : at + len(segment.positions)]
        at += len(mine)
        places = [at for index, at in zip(mine, segment.positions, strict=True) if index in letters]
        failed = Failures(places, [letters[index] for index in mine if index in letters])
        left_out = [at for index, at in zip(mine, segment.positions, strict=True) if index in dropped]
        digests = pick(batch.digests, [index for index in mine if index not in letters])
        yield segment, digests, failed, left_out
