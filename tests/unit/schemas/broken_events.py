"""Strategies that break valid events: by field and by byte. Used by the tests of inclusion."""

import json
import tracemalloc
from typing import Any

from hypothesis import strategies as st

from ingestd.schemas.schema import Refusal, Schema

HOSTILE = [
    b"",
    b" ",
    b"null",
    b"[]",
    b"7",
    b'"x"',
    b"{",
    b"{}",
    b"\xef\xbb\xbf{}",
    b"\xff",
    b"{}{}",
    b"[" * 100_000,
    b'{"a":' * 5_000,
    b"NaN",
]

# Spliced in place of a value, as raw JSON text: what parsers disagree on.
SPLICES = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e400",
    b"-0",
    b"01",
    b"1.",
    b"+1",
    b"2.0",
    b"true",
    b"null",
    b'"2"',
    b'""',
    b"[]",
    b"{}",
    b'"\\u0000"',
    b'"\\u001f"',
    b'"a\\u0085"',
    b'"a\x7f"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\\ufffe"',
    b'"\xff"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    '"é"'.encode(),
    b'"\\x"',
    b'"a\nb"',
    b"[1,]",
    b'{"a":1,}',
    b'{"a":1,"a":2}',
    b"1" * 4299,
    b"1" * 4301,
    b"-" + b"1" * 4301,
    b"1." + b"1" * 4400,
    b"[" * 195 + b"]" * 195,
    b"[" * 199 + b"]" * 199,
    b"[" * 200 + b"]" * 200,
    b'{"a":' * 199 + b"1" + b"}" * 199,
    b'"' + b"[" * 300 + b'"',
    b'"2026-01-01T10:00:00.Z"',
    b'"2026-01-01T10:00:00.1234567Z"',
    b'"2026-01-01T10:00:00.123456xZ"',
    b'"2026-01-01T10:00:00+02:00"',
    b'"2026-01-01T24:00:00Z"',
    b'"2016-12-31T23:59:60Z"',
    b'"2026-W01-1T10:00:00Z"',
    b"0",
    b"2147483648",
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def encode(event: dict[str, Any], *, spaced: bool = True, ascii_only: bool = True) -> bytes:
    separators = None if spaced else (",", ":")
    text = json.dumps(event, separators=separators, ensure_ascii=ascii_only)
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    places: list[tuple[Any, ...]] = []
    for name, child in value.items() if isinstance(value, dict) else ():
        places += [(*path, name), *_places(child, (*path, name))]
    return places


@st.composite
def broken_by_field(draw: st.DrawFn, *, valid: dict[str, Any]) -> bytes:
    """A valid event with a field dropped, replaced, doubled or spliced, or with another one added."""
    event = json.loads(json.dumps(valid))
    splices: dict[str, bytes] = {}
    for number in range(draw(st.integers(1, 2))):
        places = _places(event)
        if not places:
            break
        *parents, name = draw(st.sampled_from(places))
        holder = event
        for parent in parents:
            holder = holder[parent]
        match draw(st.sampled_from(["drop", "value", "splice", "add", "double", "rename"])):
            case "drop":
                del holder[name]
            case "value":
                holder[name] = draw(json_values)
            case "splice":
                holder[name] = f"@{number}@"
                splices[f'"@{number}@"'] = draw(st.sampled_from(SPLICES))
            case "add":
                holder[draw(st.sampled_from(["x", "A_b", "data", "data_base64", "é", "a\0"]))] = f"@{number}@"
                splices[f'"@{number}@"'] = draw(st.sampled_from(SPLICES))
            case "double":
                holder[f"={number}="] = draw(st.one_of(st.just(holder[name]), json_values))
                splices[f'"={number}="'] = json.dumps(name).encode()
            case "rename":
                holder[draw(st.text(max_size=4))] = holder.pop(name)
    encoded = encode(event, spaced=draw(st.booleans()), ascii_only=draw(st.booleans()))
    for mark, splice in splices.items():
        encoded = encoded.replace(mark.encode(), splice)
    return encoded


@st.composite
def broken_by_byte(draw: st.DrawFn, *, valid: dict[str, Any]) -> bytes:
    """A valid event with some bytes changed, removed, inserted or repeated."""
    event = bytearray(encode(valid, spaced=draw(st.booleans())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(event)))
        piece = draw(
            st.sampled_from([*SPLICES, b'"', b"\\", b",", b":", b"{", b"}", b" ", b"\0", b"\x80", b"\xe2"])
        )
        length = draw(st.sampled_from([0, 0, 1, 1, 2, 8]))
        event[at : at + length] = draw(st.sampled_from([piece, b"", bytes(event[at : at + length]) * 2]))
    return bytes(event)


def explained_within_memory(schema: Schema, event: bytes) -> Refusal:
    """Why it is refused; to find that takes no more than twice the memory that it takes to read the event."""
    tracemalloc.start()
    try:
        json.loads(event)
        read_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        refusal = schema.explain(event)
        told_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refusal is not None
    assert told_bytes < 2 * read_bytes
    return refusal
