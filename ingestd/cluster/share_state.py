"""What a new owner learns from a share's log: what is settled, what was on its way, which keys are known."""

from collections.abc import Sequence

import msgspec

from ingestd.cluster.letter_stream import LetterChange
from ingestd.cluster.log_retention import KeptRecord, kept_record
from ingestd.cluster.share_log import Frozen, LoggedRecord, Places, Reached, SentAgain, ShareCounts
from ingestd.cluster.stream_window import StreamWindow
from ingestd.processing.dedup import DIGEST_BYTES
from ingestd.store.frozen_batches import FrozenBatch, PackedSegment, unpack_positions

SOURCE = 1
"""The number of the source that all chunks of a share come from."""


class ShareState(msgspec.Struct):
    """``open``: batches that may have arrived or not, oldest first; ``settled``: by chunk
    behind the floor the positions of events that are resolved; ``letters``, ``changes``: that may not be in
    their stream yet; ``again``: requests of letters that may have arrived or not."""

    reached: Reached = msgspec.field(default_factory=Reached)
    upto: float = 0.0
    counts: ShareCounts = msgspec.field(default_factory=ShareCounts)
    open: list[FrozenBatch] = msgspec.field(default_factory=list)
    settled: dict[int, set[int]] = msgspec.field(default_factory=dict)
    letters: list[bytes] = msgspec.field(default_factory=list)
    changes: list[LetterChange] = msgspec.field(default_factory=list)
    letters_done: int = 0
    again: dict[str, SentAgain] = msgspec.field(default_factory=dict)
    stream: str = ""
    kept: list[KeptRecord] = msgspec.field(default_factory=list)

    @property
    def last_open(self) -> int:
        """The last chunk that an open batch has events of."""
        return max((one.start for batch in self.open for one in batch.segments), default=0)


def restore(logged: Sequence[LoggedRecord], window: StreamWindow, sink: str) -> ShareState:
    """``window`` is empty before; what is on its way is pending in it."""
    state = ShareState()
    frozen: dict[str, tuple[Frozen, float]] = {}
    letters: list[tuple[int, bytes]] = []
    changes: list[tuple[int, LetterChange]] = []
    over: list[Places] = []
    for one in logged:
        record = one.record
        frozen |= {batch.id: (batch, record.upto) for batch in record.frozen}
        for settled in record.settled:  # an id may come again: of dead letters that are sent again
            if entry := frozen.pop(settled.id, None):
                over += entry[0].places if settled.places is None else settled.places
                if settled.places != []:  # else it could not be rebuilt, and no event of it is settled
                    _know(window, entry[0], settled.left, entry[1], record.upto)
        if record.free:
            window.forget(split_keys(record.free))
        over += record.dismissed
        letters += [(one.sequence, letter) for letter in record.letters]
        changes += [(one.sequence, change) for change in record.changes]
        state.again |= {again.id: again for again in record.again}
        for batch_id in record.again_over:
            state.again.pop(batch_id, None)
        if record.known:
            window.restore(split_keys(record.known), confirmed_at=record.upto, now=record.upto)
        state.letters_done = max(state.letters_done, record.letters_done)
        state.upto = max(state.upto, record.upto)
        state.reached, state.counts, state.stream = record.reached, record.counts, record.stream
        state.kept.append(kept_record(one.sequence, record))
    for batch, _ in frozen.values():
        window.reclaim(split_keys(batch.keys))
        state.open.append(_open(batch, sink))
    for chunk, packed in over:
        if chunk > state.reached.floor:
            state.settled.setdefault(chunk, set()).update(unpack_positions(packed))
    state.letters = [letter for sequence, letter in letters if sequence > state.letters_done]
    state.changes = [change for sequence, change in changes if sequence > state.letters_done]
    window.upto = state.upto
    return state


def begin_at(state: ShareState, window: StreamWindow, first: int) -> list[str]:
    """What the stream holds from ``first`` on is new; before that it is as it was read. Gives the batches
    with events that are not there any more: their others go out in new ones. What is known of keys stays."""
    gone = [batch for batch in state.open if any(one.start >= first for one in batch.segments)]
    lost = [batch.id for batch in gone]
    window.release([key for batch in gone for key in batch.keys])
    state.open = [batch for batch in state.open if batch.id not in lost]
    floor = min(state.reached.floor, first - 1)
    state.settled = {chunk: positions for chunk, positions in state.settled.items() if chunk < first}
    ahead = sum(map(len, state.settled.values()))
    state.reached = Reached(floor, state.counts.total - ahead, floor, ahead=ahead)
    return lost


def split_keys(packed: bytes) -> list[bytes]:
    return [packed[first : first + DIGEST_BYTES] for first in range(0, len(packed), DIGEST_BYTES)]


def _know(window: StreamWindow, batch: Frozen, left: bytes, at: float, now: float) -> None:
    keys = split_keys(batch.keys)
    if left:
        others = set(split_keys(left))
        keys = [key for key in keys if key not in others]
    window.restore(keys, confirmed_at=at, now=now)


def _open(batch: Frozen, sink: str) -> FrozenBatch:
    segments = [PackedSegment(SOURCE, chunk, chunk + 1, packed) for chunk, packed in batch.places]
    keys = split_keys(batch.keys)
    return FrozenBatch(batch.id, False, batch.at, batch.events, batch.body, segments, None, sink, keys)
