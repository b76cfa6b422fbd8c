"""The text that Kafka keeps with a committed offset: whose commit it is, and what was settled or on its way
behind that offset, for the next owner of the partition. Pure.

    NOTE           = OWNER [ " " BASE64 ]
    BASE64 of      = b"r" MSGPACK | b"z" ZLIB(MSGPACK)
    MSGPACK        = [SPANS, SPANS, [name, …], [ROW, …], [epoch of each span, …]]
    SPANS          = [first, last, first, last, …]
    ROW            = [name's number, [key, digest, frozen at, [SEGMENT, …]]]
    SEGMENT        = [offset, messages, offsets, first position, how many | bits of positions, epoch]

Messages from ``first`` to before ``last`` are settled: by this owner; by those before it. A row without a
digest is settled, one with it is a batch that may have been sent. What has another leader's epoch than is
said (of a segment: than its last message had) is something else. Notes of older versions say no epochs.
Brokers keep at most ``offset.metadata.max.bytes``, 4096 by default.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, NamedTuple

import msgspec

from ingestd.sources.broker.chunks import KnownCut
from ingestd.sources.broker.messages import place_of, sequence_of
from ingestd.sources.kafka.leaders import Span
from ingestd.sources.kafka.runs import epoch_of, without_time
from ingestd.store.frozen_batches import FrozenBatch, PackedSegment, pack_positions
from ingestd.store.named_batches import Bits, ChunkPlace, NamedBatch, NamedBatches, positions_of

MAX_BYTES = 4096
_MAX_UNPACKED = 256 * 1024
_MAX_POSITIONS = 1 << 21
_DIGEST_BYTES = 12

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 47)]
_Small = Annotated[int, msgspec.Meta(ge=0, le=_MAX_POSITIONS)]
_Bits = Annotated[bytes, msgspec.Meta(max_length=_MAX_POSITIONS // 8)]
_Epoch = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]


class _Segment(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    offset: _Count
    messages: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
    offsets: _Count
    first: _Small
    found: _Small | _Bits
    epoch: _Epoch | None = None

    def place(self) -> tuple[int, int]:
        return place_of(self.offset, self.messages), place_of(self.offset + self.offsets)

    def bits(self) -> Bits:
        found = self.found
        bits = (1 << found) - 1 if isinstance(found, int) else int.from_bytes(found, "little")
        return bits << self.first


_Row = tuple[_Small, tuple[bytes, bytes, _Count, list[_Segment]]]


class _Packed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    own: list[_Count]
    inherited: list[_Count]
    names: list[str]
    rows: list[_Row]
    epochs: list[_Epoch] | None = None


_decode = msgspec.msgpack.Decoder(_Packed).decode


class Note(NamedTuple):
    """``owner``: whose commit it is. ``inherited``: spans that owners before it had settled. ``is_readable``:
    whether all that it names is known. ``epoch``: what of it has none counts for messages of this one."""

    owner: str = ""
    spans: Sequence[Span] = ()
    inherited: Sequence[Span] = ()
    rows: Sequence[_Row] = ()
    names: Sequence[str] = ()
    is_readable: bool = True
    epoch: int = 0

    def batches(self, source: int) -> list[FrozenBatch]:
        """As of a partition that has this number in the journal."""
        found: dict[str, FrozenBatch] = {}
        for name, (key, digest, frozen_at, segments) in self.rows:
            by, at = self.names[name], float(frozen_at)
            bits = [one.bits() for one in segments]
            packed = [
                PackedSegment(source, *one.place(), pack_positions(positions_of(of)), self._mark_of(one))
                for one, of in zip(segments, bits, strict=True)
            ]
            counts = [of.bit_count() for of in bits]
            if digest:
                text = _text_of(key)
                found[text] = FrozenBatch(text, False, at, sum(counts), digest, packed, None, by)
                continue
            for segment, count in zip(packed, counts, strict=True):
                batch_id = f"{by}/{source}/{segment.start}"
                if batch_id in found:  # of messages that were lost, and of others since
                    batch_id += f"/{epoch_of(segment.last_mark)}"
                found[batch_id] = FrozenBatch(batch_id, True, at, count, b"", [segment], None, by)
        return [*found.values()]

    def cuts(self) -> list[KnownCut]:
        """Chunks that are to be cut as its last owner has cut them."""
        return [(*one.place(), self._mark_of(one)) for _, (*_, segments) in self.rows for one in segments]

    def _mark_of(self, segment: _Segment) -> int:
        return without_time(self.epoch if segment.epoch is None else segment.epoch)


NOTHING_NAMED = Note()


def read_note(text: str, epoch: int = 0) -> Note:
    """What is not ours, or damaged, names nothing. ``epoch``: with which the offset was committed; of a note
    without epochs only that is certain which was written under this one. Raises ValueError."""
    owner, _, coded = text.rpartition(" ") if text.count(" ") == 2 else (text, "", "")
    if not coded:
        return Note(owner)
    try:
        packed = b64decode(coded, validate=True)
        unpacked = packed[1:]
        if packed[:1] == b"z":
            inflate = zlib.decompressobj()
            unpacked = inflate.decompress(packed[1:], _MAX_UNPACKED)
            if not inflate.eof:
                raise ValueError("too long")
        found = _decode(unpacked)
        own, count = len(found.own) // 2, len(found.own + found.inherited) // 2
        epochs = [epoch] * count if found.epochs is None else found.epochs
        note = Note(
            owner,
            _spans(found.own, epochs[:own]),
            _spans(found.inherited, epochs[own:]),
            found.rows,
            found.names,
            epoch=epoch,
        )
        if any(name >= len(note.names) or not segments for name, (*_, segments) in note.rows):
            raise ValueError("names nothing")
        if any(digest and len(digest) != _DIGEST_BYTES for _, (_, digest, *_) in note.rows):
            raise ValueError("no digest")
    except (ValueError, zlib.error, msgspec.DecodeError):
        return Note(owner, is_readable=False)
    return note


def write_note(
    owner: str,
    named: NamedBatches,
    spans: Sequence[Span] = (),
    inherited: Sequence[Span] = (),
    max_bytes: int = MAX_BYTES,
) -> tuple[str, list[str]] | None:
    """The note, and the ids of the batches that it names: those that came first, where not all have room.
    None: it has none for what is settled, and the batches that were named before."""
    settled = [(by, chunks) for by, chunks in named.settled.items() if chunks]
    if not (named.open or settled or spans or inherited):
        return owner if len(owner) <= max_bytes else "", []
    numbers: dict[str, int] = {}
    rows = [
        _row(numbers, by, msgspec.msgpack.encode((b"", b"", 0, _segments(chunks)))) for by, chunks in settled
    ]
    first, ids = len(rows), sorted(named.open, key=lambda one: not named.open[one].is_announced)
    least = first + sum(one.is_announced for one in named.open.values())
    rows += [_row(numbers, one.sink, _packed(one)) for one in map(named.open.__getitem__, ids)]
    count = len(rows)
    while count >= least:
        text = _text(owner, (spans, inherited), [*numbers], rows[:count])
        if len(text) <= max_bytes:
            return text, ids[: count - first]
        count = min(count - 1, max(least, int(count * max_bytes / len(text))))
    return None


def _row(numbers: dict[str, int], by: str, packed: bytes) -> bytes:
    return msgspec.msgpack.encode((numbers.setdefault(by, len(numbers)), msgspec.Raw(packed)))


def _spans(flat: Sequence[int], epochs: Sequence[int]) -> list[Span]:
    return [Span(*span) for span in zip(flat[::2], flat[1::2], epochs, strict=True)]


def _text(owner: str, spans: Sequence[Sequence[Span]], names: Sequence[str], rows: Sequence[bytes]) -> str:
    raw = [msgspec.Raw(row) for row in rows]
    flat = [[at for span in one for at in (span.first, span.last)] for one in spans]
    epochs = [span.epoch for one in spans for span in one]
    packed = msgspec.msgpack.encode((*flat, names, raw, epochs))
    packed = b"r" + packed if len(packed) < MAX_BYTES // 2 else b"z" + zlib.compress(packed, 1)
    return f"{owner} {b64encode(packed).decode()}"


def _packed(one: NamedBatch) -> bytes:
    if not one.packed:
        segments = _segments(one.segments)
        one.packed = msgspec.msgpack.encode((_short(one.key), one.digest, int(one.frozen_at), segments))
    return one.packed


def _segments(chunks: Mapping[ChunkPlace, Bits]) -> list[_Segment]:
    """Of a chunk that came again more may be known of its last message than its epoch: it is still one."""
    found: dict[tuple[int, int, int], Bits] = {}
    for (start, end, mark), bits in chunks.items():
        place = start, end, epoch_of(mark)
        found[place] = found.get(place, 0) | bits
    return [_segment(*one) for one in found.items()]


def _segment(place: ChunkPlace, bits: Bits) -> _Segment:
    """``place``: with an epoch in the place of its mark."""
    start, end, epoch = place
    offset = sequence_of(start)
    first = (bits & -bits).bit_length() - 1 if bits else 0
    shifted = bits >> first
    found = shifted.bit_length() if not shifted & (shifted + 1) else _bytes_of(shifted)
    return _Segment(offset, start - place_of(offset), sequence_of(end) - offset, first, found, epoch)


def _bytes_of(bits: Bits) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _short(key: str) -> bytes:
    """Of a UUID its 16 bytes; else T and the text, or t, the text and a zero where that would be 16, too."""
    with suppress(ValueError):
        if len(packed := bytes.fromhex(key.replace("-", ""))) == 16 and _text_of(packed) == key:
            return packed
    text = key.encode()
    return b"t%b\0" % text if len(text) == 15 else b"T" + text


def _text_of(key: bytes) -> str:
    if len(key) != 16:
        return key[1 : -1 if key[:1] == b"t" else None].decode("utf-8", "replace")
    digits = key.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
