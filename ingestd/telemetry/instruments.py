"""What is noted where it happens, without a lock, a file or a library: counts, and lines for the audit file.

``metrics.py`` makes metrics of the counts, ``audit_file.py`` writes the lines.
"""

import json
import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from ingestd.core.redaction import redact
from ingestd.core.text import without_json
from ingestd.telemetry.audit_chain import CHAIN_BYTES
from ingestd.telemetry.audit_entry import AuditEntry

Labels = Mapping[str, str]


class Buckets:
    """How many of the values were at most as large as each of ``bounds``, the last of which is infinity.

    ``examples``: by bucket, the last value that came with the labels of its trace, and these.
    """

    __slots__ = ("bounds", "counts", "examples", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = (*bounds, float("inf"))
        self.counts = [0] * len(self.bounds)
        self.total = 0.0
        self.examples: dict[int, tuple[float, Labels]] = {}

    def observe(self, value: float, exemplar: Labels | None = None) -> None:
        at = bisect_left(self.bounds, value)
        self.counts[at] += 1
        self.total += value
        if exemplar:
            self.examples[at] = value, exemplar

    def cumulative(self) -> list[tuple[float, int]]:
        """(bound, values that are at most as large)."""
        found, count = [], 0
        for bound, here in zip(self.bounds, self.counts, strict=True):
            count += here
            found.append((bound, count))
        return found


class BatchSizes:
    """Of batches at their first send."""

    def __init__(self) -> None:
        self.events = Buckets((1, 10, 50, 100, 250, 500, 1000, 2500, 5000))
        self.bytes = Buckets((1e3, 1e4, 5e4, 1e5, 2e5, 3e5, 4e5, 5e5, 1e6, 5e6))

    def observe(self, events: int, size: int, exemplar: Labels | None) -> None:
        self.events.observe(events, exemplar)
        self.bytes.observe(size, exemplar)


MAX_PRODUCERS = 200


class ProducerEvents:
    """Counts events by producer. Only configured names become labels, and no more than MAX_PRODUCERS.

    Other producers are ``other``, or ``anonymous`` without a name.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.counts: dict[str, int] = {"anonymous": 0, "other": 0}
        self.configure(names)

    def configure(self, names: Iterable[str]) -> None:
        """Also after a reload: names that are gone keep their counts, or the counter would go back."""
        for name in names:
            if len(self.counts) < MAX_PRODUCERS + 2:
                self.counts.setdefault(name, 0)

    def add(self, producer: str, events: int) -> None:
        label = producer or "anonymous"
        self.counts[label if label in self.counts else "other"] += events


MAX_FIELD = 500
"""Characters of one field; longer ones are cut."""
_OURS = frozenset(("sink", "request_id"))
"""Fields of nearly every line that hold nothing from outside."""
_LINE_BYTES = 250
"""What a line that is not written out yet counts as, with its chain: a little more than most have."""

_encoder = msgspec.json.Encoder(enc_hook=str)
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode


class AuditBuffer(ABC):
    """Lines of the audit file that wait to be written. ``flush`` is called when there are as many as ``room``
    holds. ``problem``: why they cannot be written; then more than ``max_held_bytes`` are only counted.

    ASCII only: control characters and line breaks in a field cannot forge a line.
    """

    def __init__(self, max_held_bytes: int) -> None:
        self.problem = ""
        self._missing = 0
        self._closed = False
        self._max_held_bytes = max_held_bytes
        self._room = max_held_bytes
        self._bodies: list[bytes] = []
        self._lines: list[dict[str, object]] = []  # behind those, not written out yet
        self._waiting_bytes = 0
        self._millisecond = self._second = -1
        self._written = self._now_written = ""

    @abstractmethod
    def flush(self) -> None:
        """Write them, if that can be done."""

    def __call__(self, entry: AuditEntry, /, **fields: str | int | float | bool | None) -> None:
        if self._closed:
            return
        if self.problem and self._waiting_bytes >= self._max_held_bytes:
            self._missing += 1
            return
        if entry.is_ours:  # most lines, and where each event is a request, thousands a second
            self._lines.append({"time": self._now(), "event": entry, **fields})
            self._waiting_bytes += _LINE_BYTES
        else:
            self._write_out()
            body = self._body(entry, fields)
            self._bodies.append(body)
            self._waiting_bytes += len(body) + CHAIN_BYTES
        if self._waiting_bytes >= self._room and not self.problem:
            self.flush()

    def _body(self, entry: AuditEntry, fields: Mapping[str, str | int | float | bool | None]) -> bytes:
        line: dict[str, object] = {"time": self._now(), "event": entry, **fields}
        for name, value in fields.items():
            if type(value) is str:
                if name in _OURS and len(value) <= MAX_FIELD and "{" not in value:
                    continue
                value = value if name in _OURS else redact(value)
                line[name] = (without_json(value) if "{" in value else value)[:MAX_FIELD]
        return _encode_line(line)

    def _now(self) -> str:
        """RFC 3339, to the millisecond; written once for all lines of it, as its second is."""
        millisecond = int(time.time() * 1000)
        if millisecond != self._millisecond:
            self._millisecond = millisecond
            second, rest = divmod(millisecond, 1000)
            if second != self._second:
                self._second = second
                self._written = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._now_written = f"{self._written}.{rest:03d}+00:00"
        return self._now_written

    def _write_out(self) -> None:
        """Lines that have only been gathered, all in one call."""
        if self._lines:
            self._bodies += _encode_lines(self._lines)
            self._lines = []


def _encode_line(line: dict[str, object]) -> bytes:
    """The quick encoder leaves what is not ASCII as it is, and refuses half a surrogate pair."""
    try:
        data = _encoder.encode(line)
    except UnicodeEncodeError:
        data = b"\xff"
    return data if data.isascii() else _encode_ascii(line).encode()


def _encode_lines(lines: list[dict[str, object]]) -> list[bytes]:
    try:
        data = _encoder.encode_lines(lines)
    except UnicodeEncodeError:
        data = b"\xff"
    return data[:-1].split(b"\n") if data.isascii() else [_encode_line(line) for line in lines]
