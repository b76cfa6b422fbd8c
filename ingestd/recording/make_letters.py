"""Dead letters made from what the lane or the intake reports. Called by ``event_recorder``."""

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

from ingestd.core.chunk import Batch, Chunk, Segment, pick_segments
from ingestd.core.letter import DeadLetter, Form, LetterColumns
from ingestd.core.reasons import Reason
from ingestd.core.sequences import pick
from ingestd.delivery.recorder import FailedEvent
from ingestd.store.confirmations import Pending
from ingestd.store.trail import owner_at

_ANSWERED = frozenset({Reason.REFUSED, Reason.TOO_LARGE})
"""Reasons that say that the API did not take the event, whatever earlier attempts came to."""


def letter_of_event(chunk: Chunk, position: int, reason: Reason, detail: str) -> DeadLetter:
    """Of an event that never was in a batch."""
    offset, line = chunk.place(position)
    full = _with_message(chunk, position, detail)
    producer = owner_at(chunk.owners, position)
    return DeadLetter(chunk.events[position], reason, full, chunk.source, offset, line, producer=producer)


def letters_of_events(chunk: Chunk, why: Mapping[int, tuple[Reason, str]]) -> Sequence[DeadLetter]:
    """As ``letter_of_event``, of several, by position: of a large input one in a hundred is refused."""
    if chunk.about or chunk.owners:
        return [letter_of_event(chunk, position, *words) for position, words in why.items()]
    if not why:
        return ()
    reasons, details = zip(*why.values(), strict=True)
    payloads, source = [*map(chunk.events.__getitem__, why)], [chunk.source] * len(why)
    others = [[value] * len(why) for value in DeadLetter._field_defaults.values()]
    return LetterColumns((payloads, reasons, details, source, *chunk.places([*why]), *others))


def _with_message(chunk: Chunk, position: int, detail: str) -> str:
    """With the message that it came in, on a line of its own: by the first one letters are grouped."""
    return f"{detail}\n{chunk.about(position)}" if chunk.about else detail


def letter_of_copy(chunk: Chunk, position: int, model: DeadLetter) -> DeadLetter:
    """A copy of an event that failed has failed, too."""
    detail = f"a copy of an event that failed: {model.detail}"
    return letter_of_event(chunk, position, model.reason, detail)


def letters_of_batch(
    batch: Batch, failed: Sequence[FailedEvent], *, sink: str
) -> Iterator[tuple[Segment, Sequence[int], LetterColumns]]:
    """By the chunks that they came from: those that failed, their indices in the batch, and their letters.
    The key of an event that goes to this sink only is free with its letter.

    Column by column: an answer may refuse thousands at once.
    """
    ordered = sorted(failed, key=attrgetter("index"))
    at, every = 0, [one.index for one in ordered]
    for segment in pick_segments(batch.segments, every):
        chunk, positions = segment
        mine = ordered[at : at + len(positions)]
        indices, reasons = every[at : at + len(positions)], [one.reason for one in mine]
        at += len(positions)
        details = [one.detail for one in mine]
        if chunk.about:
            details = [
                _with_message(chunk, at, detail) for at, detail in zip(positions, details, strict=True)
            ]
        payloads, forms = _payloads(batch, indices, pick(chunk.events, positions), reasons)
        offsets, lines = chunk.places(positions)
        count = len(indices)
        owners, ambiguous = [""] * count, [False] * count
        if chunk.owners:
            owners = [owner_at(chunk.owners, position) for position in positions]
        if batch.ambiguous:
            ambiguous = [reason not in _ANSWERED for reason in reasons]
        columns = (
            *(payloads, reasons, details, [chunk.source] * count, offsets, lines),
            *([*pick(batch.digests, indices)], [batch.id] * count, indices, [len(batch)] * count),
            *([batch.tries] * count, ambiguous, [batch.first_sent_wall] * count, [sink] * count),
            *([chunk.receipt.final] * count, owners, forms),
        )
        yield segment, indices, LetterColumns(columns)


def _payloads(
    batch: Batch, indices: Sequence[int], came: Sequence[bytes], reasons: Sequence[Reason]
) -> tuple[Sequence[bytes], Sequence[Form]]:
    """What is kept of each event, and what that is. ``came``: the events as they came."""
    sent = list(pick(batch.events, indices))
    if sent == list(came) and Reason.UNTRANSFORMED not in reasons:
        return sent, [Form.AS_IT_CAME] * len(sent)
    kept = [
        (one, Form.UNTRANSFORMED)
        if reason is Reason.UNTRANSFORMED
        else (other, Form.AS_IT_CAME if one == other else Form.TRANSFORMED)
        for one, other, reason in zip(came, sent, reasons, strict=True)
    ]
    return [payload for payload, _ in kept], [form for _, form in kept]


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
