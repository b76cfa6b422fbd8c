"""The text that Kafka keeps with a committed offset: whose commit it is, and what was settled or on its way
behind that offset, for the next owner of the partition. Pure.

    NOTE           = OWNER [ " " BASE64 ]
    BASE64 of      = b"r" MSGPACK | b"z" ZLIB(MSGPACK)
    MSGPACK        = [SPANS, SPANS, [name, …], [ROW, …]]
    SPANS          = [first, last, first, last, …]
    ROW            = [name's number, [key, digest, frozen at, [SEGMENT, …]]]
    SEGMENT        = [offset, messages, offsets, first position, how many | bits of positions]

Messages from ``first`` to before ``last`` are settled: by this owner; by those before it. A row without a
digest is settled, one with it is a batch that may have been sent. Brokers keep at most
``offset.metadata.max.bytes``, 4096 by default.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, NamedTuple

import msgspec

from ingestd.sources.broker.chunks import Cut, place_of, sequence_of
from ingestd.store.frozen_batches import FrozenBatch, PackedSegment, pack_positions
from ingestd.store.named_batches import Bits, ChunkPlace, NamedBatch, NamedBatches, positions_of

MAX_BYTES = 4096
_MAX_UNPACKED = 256 * 1024
_MAX_POSITIONS = 1 << 21
_DIGEST_BYTES = 12

Span = tuple[int, int]
"""(first, last) offset of messages that are settled; the last one is not among them."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 47)]
_Small = Annotated[int, msgspec.Meta(ge=0, le=_MAX_POSITIONS)]
_Bits = Annotated[bytes, msgspec.Meta(max_length=_MAX_POSITIONS // 8)]
_Segment = tuple[_Count, Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)], _Count, _Small, _Small | _Bits]
_Row = tuple[_Small, tuple[bytes, bytes, _Count, list[_Segment]]]
_decode = msgspec.msgpack.Decoder(tuple[list[_Count], list[_Count], list[str], list[_Row]]).decode


class Note(NamedTuple):
    """``owner``: whose commit it is. ``inherited``: spans that owners before it had settled. ``is_readable``:
    whether all that it names is known."""

    owner: str = ""
    spans: Sequence[Span] = ()
    inherited: Sequence[Span] = ()
    rows: Sequence[_Row] = ()
    names: Sequence[str] = ()
    is_readable: bool = True

    def batches(self, source: int) -> list[FrozenBatch]:
        """As of a partition that has this number in the journal."""
        found: list[FrozenBatch] = []
        for name, (key, digest, frozen_at, segments) in self.rows:
            by, at = self.names[name], float(frozen_at)
            unpacked = [
                (place, bits, pack_positions(positions_of(bits))) for place, bits in map(_unpacked, segments)
            ]
            packed = [PackedSegment(source, *place, positions) for place, _, positions in unpacked]
            counts = [bits.bit_count() for _, bits, _ in unpacked]
            if digest:
                found.append(FrozenBatch(_text_of(key), False, at, sum(counts), digest, packed, None, by))
                continue
            for segment, count in zip(packed, counts, strict=True):
                batch_id = f"{by}/{source}/{segment.start}"
                found.append(FrozenBatch(batch_id, True, at, count, b"", [segment], None, by))
        return found

    def cuts(self) -> list[Cut]:
        return [
            (place_of(offset, count), place_of(offset + length))
            for _, (*_, segments) in self.rows
            for offset, count, length, *_ in segments
        ]


NOTHING_NAMED = Note()


def read_note(text: str) -> Note:
    """What is not ours, or damaged, names nothing. Raises ValueError."""
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
        own, inherited, names, rows = _decode(unpacked)
        note = Note(owner, _spans(own), _spans(inherited), rows, names)
        if any(name >= len(names) or not segments for name, (*_, segments) in rows):
            raise ValueError("names nothing")
        if any(digest and len(digest) != _DIGEST_BYTES for _, (_, digest, *_) in rows):
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
        _row(numbers, by, msgspec.msgpack.encode((b"", b"", 0, [_segment(*one) for one in chunks.items()])))
        for by, chunks in settled
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


def _spans(flat: Sequence[int]) -> list[Span]:
    return [*zip(flat[::2], flat[1::2], strict=True)]


def _text(owner: str, spans: Sequence[Sequence[Span]], names: Sequence[str], rows: Sequence[bytes]) -> str:
    raw = [msgspec.Raw(row) for row in rows]
    flat = [[at for span in one for at in span] for one in spans]
    packed = msgspec.msgpack.encode((*flat, names, raw))
    packed = b"r" + packed if len(packed) < MAX_BYTES // 2 else b"z" + zlib.compress(packed, 1)
    return f"{owner} {b64encode(packed).decode()}"


def _packed(one: NamedBatch) -> bytes:
    if not one.packed:
        segments = [_segment(*at) for at in one.segments.items()]
        one.packed = msgspec.msgpack.encode((_short(one.key), one.digest, int(one.frozen_at), segments))
    return one.packed


def _segment(place: ChunkPlace, bits: Bits) -> tuple[int, int, int, int, int | bytes]:
    start, end = place
    offset = sequence_of(start)
    first = (bits & -bits).bit_length() - 1 if bits else 0
    shifted = bits >> first
    found = shifted.bit_length() if not shifted & (shifted + 1) else _bytes_of(shifted)
    return offset, start - place_of(offset), sequence_of(end) - offset, first, found


def _bytes_of(bits: Bits) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _unpacked(segment: _Segment) -> tuple[ChunkPlace, Bits]:
    offset, count, length, first, found = segment
    bits = (1 << found) - 1 if isinstance(found, int) else int.from_bytes(found, "little")
    return (place_of(offset, count), place_of(offset + length)), bits << first


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
