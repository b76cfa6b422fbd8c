"""Bodies that are made to cost, by name. Each is built when it is asked for: together they have 500 MB."""

import gzip
import sys
from collections.abc import Callable
from typing import NamedTuple

from tests.integration.intake.support import event

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ROOM = 16 * 1024 * 1024 - 2_000
"""A little less than ``ingest.max_body``."""
MAX_EVENTS = 20_000


class Body(NamedTuple):
    """``status``: the one right answer."""

    status: int
    data: bytes
    kind: str = "application/json"
    coding: str = ""


def inside(value: bytes, number: int = 1) -> bytes:
    """A valid interaction with ``value`` in its attributes."""
    return event(number).replace(b'"pad":""', b'"pad":' + value)


def list_of(one: bytes, size: int = ROOM) -> bytes:
    return b"[" + (one + b",") * (size // (len(one) + 1)) + b"1]"


def members(count: int) -> bytes:
    return b",".join(b'"k%x":{}' % number for number in range(count))


def unknown(count: int) -> bytes:
    return b'{"routingMetadata":{%b},"eventTime":1}' % members(count)


def array(events: list[bytes]) -> bytes:
    return b"[" + b",".join(events) + b"]"


def lines(events: list[bytes]) -> bytes:
    return b"\n".join(events)


def full_of(one: bytes) -> list[bytes]:
    return [one] * min(MAX_EVENTS, ROOM // (len(one) + 1))


def _lines_of(one: bytes, status: int) -> Body:
    return Body(status, lines(full_of(one)), "application/x-ndjson")


def _gzip(data: bytes, status: int) -> Body:
    """Quickly packed: a bomb all the same, 200 to 1."""
    return Body(status, gzip.compress(data, 1), coding="gzip")


def _numbered(pad: int) -> list[bytes]:
    return [event(number, pad=pad) for number in range(MAX_EVENTS)]


_MANY_ERRORS = b'{"routingMetadata":{},"x":"' + "é".encode() * 380 + b'"}'
_NOT_UTF8 = event(1, pad=300).replace(b"xx", b"\xff\xfe")
_WRONG_TEXT = event(1).replace(b'"call"', b'"\\u0001' + "😀".encode() * 90 + b'"')

BODIES: dict[str, Callable[[], Body]] = {
    "honest array": lambda: Body(202, array(_numbered(500))),
    "honest lines": lambda: Body(202, lines(_numbered(500)), "application/x-ndjson"),
    "honest large events": lambda: Body(202, array([event(n, pad=400_000) for n in range(38)])),
    "unknown members": lambda: Body(422, unknown(1_000_000)),
    "unknown members, gzip": lambda: _gzip(unknown(300_000), 422),
    "33 of unknown members": lambda: Body(422, array([unknown(40_000)] * 33)),
    "50 valid ones of lists": lambda: Body(202, array([inside(list_of(b"[]", 290_000))] * 50)),
    "lists": lambda: Body(422, inside(list_of(b"[]"))),
    "objects": lambda: Body(422, inside(list_of(b"{}"))),
    "numbers": lambda: Body(422, inside(list_of(b"1.5"))),
    "texts": lambda: Body(422, inside(list_of(b'""'))),
    "nested": lambda: Body(422, inside(list_of(b'{"a":[{"b":[1,{}]}]}'))),
    "top level members": lambda: Body(422, event(1)[:-1] + b"," + members(1_200_000) + b"}"),
    "one text": lambda: Body(422, inside(b'"' + b"x" * ROOM + b'"')),
    "one text of escapes": lambda: Body(422, inside(b'"' + b"\\u0041" * (ROOM // 6) + b'"')),
    "one number": lambda: Body(422, b'{"id":' + b"9" * ROOM + b"}"),
    "half a pair in lists": lambda: Body(413, b'["\\ud800",' + list_of(b"[]")[1:]),
    "half a pair beside lists": lambda: Body(400, b'["\\ud800",' + list_of(b"[]") + b"]"),
    "deep": lambda: Body(400, b"[" * (ROOM // 2) + b"]" * (ROOM // 2)),
    "deep objects": lambda: Body(400, b'{"a":' * (ROOM // 6) + b"1" + b"}" * (ROOM // 6)),
    "as deep as allowed": lambda: Body(202, array(full_of(inside(b"[" * 62 + b"]" * 62)))),
    "deep events": lambda: Body(422, array(full_of(inside(b"[" * 150 + b"]" * 150, 30_000)))),
    "tiny events": lambda: Body(422, array([b"{}"] * MAX_EVENTS)),
    "too many tiny events": lambda: Body(413, array([b"{}"] * 5_000_000)),
    "too many tiny arrays": lambda: Body(413, b"[1,1,1]\n" * (ROOM // 8)),
    "tiny lines": lambda: Body(413, b"{}\n" * 5_000_000, "application/x-ndjson"),
    "blank lines": lambda: Body(202, b"\n" * ROOM, "application/x-ndjson"),
    "broken lines": lambda: _lines_of(b'{"a":"' + b"x" * 780, 422),
    "many errors": lambda: _lines_of(_MANY_ERRORS, 422),
    "wrong texts": lambda: _lines_of(_WRONG_TEXT, 422),
    "bomb of spaces, gzip": lambda: _gzip(b" " * ROOM + b"{}", 413),
    "bomb of lists, gzip": lambda: _gzip(inside(list_of(b"[]")), 413),
    "bomb of lists, zstd": lambda: Body(413, zstd.compress(inside(list_of(b"[]"))), coding="zstd"),
    "bomb beyond the limit, gzip": lambda: _gzip(b" " * (20 * ROOM), 413),
    "lines as JSON": lambda: Body(202, lines([*_numbered(300)[:-1], b"{"])),
    "back to back": lambda: Body(202, b"".join(_numbered(300))),
    "brackets back to back": lambda: Body(400, b'{"a":"\\ud800"}' + b"{\n" * (ROOM // 3)),
    "not UTF-8": lambda: Body(
        202, array([*full_of(event(1, pad=300).replace(b"xx", b"\xff\xfe"))[:-1], event(2)])
    ),
}

QUICK = (
    *("honest array", "unknown members", "lists", "objects", "top level members", "half a pair in lists"),
    *("too many tiny arrays", "bomb of lists, zstd", "bomb beyond the limit, gzip"),
)
"""Those that take most memory; ``make fuzz`` sends all. Small ones of every shape
are what ``tests/integration/sources/http/test_hostile_bodies.py`` makes."""
