"""Transforms run here: on what of a chunk goes to one sink, before it is in a batch.

What they leave out, or fail on, is resolved at once, by the recorder of the sink. Called by ``fan_out.py``
and ``spool_feed.py``, for sinks with transforms only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ingestd.core.chunk import Batch, Chunk, Segment
from ingestd.core.reasons import Reason
from ingestd.core.receipt import Digests, Positions
from ingestd.core.sequences import pick, without
from ingestd.delivery.recorder import FailedEvent, Outcomes
from ingestd.delivery.sink_runner import SinkRunner

if TYPE_CHECKING:
    from ingestd.processing.transforms.program import Program


def transform(
    program: "Program",
    sink: SinkRunner,
    chunk: Chunk,
    events: Sequence[bytes],
    digests: Digests,
    positions: Positions,
) -> tuple[Sequence[bytes], Digests, Positions]:
    """What is left for the sink, as it is sent. ``digests``: of the keys that events had when they came."""
    made, dropped, failed = program.run(events)
    if not (dropped or failed):
        return made, digests, positions
    gone = sorted([*dropped, *failed])
    place = {index: at for at, index in enumerate(gone)}
    batch = Batch(
        pick(events, gone),
        pick(digests, gone),
        [Segment(chunk, pick(positions, gone))],
        sink.lane.new_id,
    )
    outcomes = Outcomes(
        failed=[
            FailedEvent(place[index], Reason.UNTRANSFORMED, why) for index, why in sorted(failed.items())
        ],
        dropped=[place[index] for index in dropped],
    )
    sink.recorder.resolve(batch, outcomes)
    return without(made, gone), without(digests, gone), without(positions, gone)
