"""Dead letters made from what the lane or the intake reports. Called by ``event_recorder``."""

from collections.abc import Sequence
from operator import attrgetter

from ingestd.core.chunk import Batch, Chunk, pick_segments
from ingestd.core.letter import DeadLetter, Form
from ingestd.core.reasons import Reason
from ingestd.delivery.recorder import FailedEvent
from ingestd.store.confirmations import Pending
from ingestd.store.trail import owner_at

_ANSWERED = frozenset({Reason.REFUSED, Reason.TOO_LARGE})
"""Reasons that say that the API did not take the event, whatever earlier attempts came to."""


def letter_of_event(chunk: Chunk, position: int, reason: Reason, detail: str) -> DeadLetter:
    """Of an event that never was in a batch."""
    offset, line = chunk.place(position)
    told = _told(chunk, position, detail)
    producer = owner_at(chunk.owners, position)
    return DeadLetter(chunk.events[position], reason, told, chunk.source, offset, line, producer=producer)


def _told(chunk: Chunk, position: int, detail: str) -> str:
    """With the message that it came in, on a line of its own: by the first one letters are grouped."""
    return f"{detail}\n{chunk.about(position)}" if chunk.about else detail


def letter_of_copy(chunk: Chunk, position: int, model: DeadLetter) -> DeadLetter:
    """A copy of an event that failed has failed, too."""
    detail = f"a copy of an event that failed: {model.detail}"
    return letter_of_event(chunk, position, model.reason, detail)


def letters_of_batch(batch: Batch, failed: Sequence[FailedEvent], *, sink: str) -> dict[int, DeadLetter]:
    """By index in the batch. The key of an event that goes to this sink only is free with its letter."""
    ordered = sorted(failed, key=attrgetter("index"))
    segments = pick_segments(batch.segments, [one.index for one in ordered])
    batch_id, size, tries, first_sent = batch.id, len(batch), batch.tries, batch.first_sent_wall
    sent, digests = batch.events, batch.digests
    letters: dict[int, DeadLetter] = {}
    left = iter(ordered)
    for chunk, positions in segments:
        events, place, source, about, owners = (
            chunk.events,
            chunk.place,
            chunk.source,
            chunk.about,
            chunk.owners,
        )
        final = chunk.receipt.final
        for position, one in zip(positions, left, strict=False):  # what is left belongs to the next segment
            index, reason, came = one.index, one.reason, events[position]
            payload, form = sent[index], Form.AS_IT_CAME
            if reason is Reason.UNTRANSFORMED:
                payload, form = came, Form.UNTRANSFORMED
            elif payload != came:
                form = Form.TRANSFORMED
            offset, line = place(position)
            letters[index] = DeadLetter(  # by position, for speed: an answer may refuse thousands
                payload,
                reason,
                _told(chunk, position, one.detail) if about else one.detail,
                source,
                offset,
                line,
                digests[index],
                batch_id,
                index,
                size,
                tries,
                batch.ambiguous and reason not in _ANSWERED,
                first_sent,
                sink,
                final,
                owner_at(owners, position) if owners else "",
                form,
            )
    return letters


def letters_that_failed_again(batch: Batch, failed: Sequence[FailedEvent]) -> list[tuple[int, DeadLetter]]:
    """(number of the letter, what there is new about it) for each of ``failed``."""
    return [
        (
            batch.letters[one.index],
            DeadLetter(
                b"",
                one.reason,
                one.detail,
                0,
                0,
                0,
                digest=batch.digests[one.index],
                batch=batch.id,
                batch_index=one.index,
                batch_size=len(batch),
                ambiguous=batch.ambiguous and one.reason not in _ANSWERED,
                first_sent_wall=batch.first_sent_wall,
            ),
        )
        for one in failed
    ]


def pending_of_batch(batch: Batch, remote_ids: Sequence[tuple[int, str]], *, sink: str) -> list[Pending]:
    """Events that the API has accepted and will be asked about, by index in the batch and its own ids."""
    ordered = sorted(remote_ids)
    segments = pick_segments(batch.segments, [index for index, _ in ordered])
    origins = ((segment.chunk, position) for segment in segments for position in segment.positions)
    pending: list[Pending] = []
    for (index, remote_id), (chunk, position) in zip(ordered, origins, strict=True):
        offset, line = chunk.place(position)
        digest, payload = batch.digests[index], batch.events[index]
        where = (batch.id, chunk.source, offset, line)
        pending.append(Pending(sink, remote_id, *where, digest, batch.tries, payload))
    return pending
