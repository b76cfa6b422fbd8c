"""Events as they pass, for a person at ``ingestd tap``: a few of them, and never at the pipeline's cost.

While nobody looks nothing is done but to ask whether somebody does. A viewer gets samples: some of each
chunk, so many a second, and what is not taken in time is left out, with its number.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from ingestd.core.clock import Clock
from ingestd.core.json_path import INDEX, Path
from ingestd.core.redaction import MASK, redact
from ingestd.core.token_bucket import TokenBucket
from ingestd.core.units import rfc3339

MAX_READERS = 4
PER_SECOND, PER_CHUNK = 200.0, 20
"""Events that one reader gets."""
MAX_WAITING, MAX_NOTES = 1_000, 100
TURN_S = 1.0
"""Time between two looks at whether the viewer is still there."""
MAX_EVENT_BYTES = 16 * 1024
"""Of a larger event only the beginning is shown, as text."""
WHAT = ("accepted", "duplicate", "rejected", "delivered", "dead_lettered", "dropped")

Matches = Callable[[bytes], bool]
TapSample = Mapping[str, Any]


class TapReader:
    """``samples`` waits for the next ones. ``sink``, ``what``: empty is any. ``missed``: were left out;
    ``notes``: what the viewer has to know."""

    def __init__(self, clock: Clock, *, sink: str, what: str, matches: Matches | None) -> None:
        self.sink, self.what, self.matches = sink, what, matches
        self.missed = 0
        self.notes: deque[str] = deque(maxlen=MAX_NOTES)
        self._waiting: deque[TapSample] = deque()
        self._bucket = TokenBucket(PER_SECOND, PER_SECOND, clock.monotonic())
        self._clock = clock
        self._news = asyncio.Event()

    def offer(self, samples: Iterator[TapSample], count: int) -> None:
        """As many as may be; ``count``: how many there are; 0: not known."""
        now, offered = self._clock.monotonic(), 0
        while offered < PER_CHUNK and self._bucket.wait_s(now) == 0 and len(self._waiting) < MAX_WAITING:
            if (sample := next(samples, None)) is None:
                break
            self._bucket.take(now)
            self._waiting.append(sample)
            offered += 1
        self.missed += max(0, count - offered)
        if offered:
            self._news.set()

    async def samples(self) -> list[TapSample]:
        while not self._waiting:
            self._news = asyncio.Event()
            await self._news.wait()
        return self.take_all()

    async def lines(self, limit: int, *, turn_s: float = TURN_S) -> AsyncIterator[list[Mapping[str, Any]]]:
        """What to show, for machines: samples, notes, and how many were left out; at least every ``turn_s``,
        then it may be nothing. ``limit``: samples, after which it ends; 0: never."""
        sent = 0
        while not limit or sent < limit:
            samples: list[TapSample] = []
            with suppress(TimeoutError):
                async with asyncio.timeout(turn_s):
                    samples = await self.samples()
            if limit:
                samples = samples[: limit - sent]
            sent += len(samples)
            entries = [*samples, *({"note": one} for one in self.notes)]
            if self.missed:
                entries.append({"missed": self.missed})
            self.missed = 0
            self.notes.clear()
            yield entries

    def take_all(self) -> list[TapSample]:
        """Those that are there."""
        found = list(self._waiting)
        self._waiting.clear()
        return found


class Tap:
    """``open``: somebody looks. ``redact``: what stands at these paths of an event is not shown."""

    def __init__(self, clock: Clock, redact_paths: Sequence[Path] = ()) -> None:
        self.open = False
        self.redact_paths = tuple(redact_paths)
        self._clock = clock
        self._readers: list[TapReader] = []

    @contextmanager
    def listen(
        self, *, sink: str = "", what: str = "", matches: Matches | None = None
    ) -> Iterator[TapReader]:
        """Raises ValueError when too many look already."""
        if len(self._readers) >= MAX_READERS:
            raise ValueError(f"{MAX_READERS} viewers are connected already: end one of them first")
        one = TapReader(self._clock, sink=sink, what=what, matches=matches)
        self._readers.append(one)
        self.open = True
        try:
            yield one
        finally:
            self._readers.remove(one)
            self.open = bool(self._readers)

    def show(
        self, what: str, events: Sequence[bytes], *, sink: str = "", batch: str = "", why: str = ""
    ) -> None:
        """Events with this outcome; called only while ``open``. Raises nothing: a viewer must not stop the
        service."""
        if self.redact_paths:
            why = why.partition(":")[0]  # the words behind it may repeat what is in the event
        for one in self._readers:
            if one.what in ("", what) and (not one.sink or not sink or one.sink == sink):
                chosen = (event for event in events if one.matches is None or one.matches(event))
                description = {
                    "what": what,
                    "sink": sink or None,
                    "batch": batch or None,
                    "why": redact(why) or None,
                }
                count = len(events) if one.matches is None else 0
                try:
                    one.offer((self._sample(description, event) for event in chosen), count)
                except Exception:  # not told: the words of the error may hold the event
                    one.missed += 1

    def _sample(self, description: Mapping[str, Any], event: bytes) -> TapSample:
        at = rfc3339(self._clock.wall(), "milliseconds")
        return {"time": at, **description, "event": shown(event, self.redact_paths)}


def shown(event: bytes, paths: Sequence[Path]) -> Any:
    """An event for somebody's eyes: decoded, or its beginning as text, without what is at ``paths``."""
    if len(event) > MAX_EVENT_BYTES:
        return f"{len(event)} bytes" if paths else event[:1000].decode("utf-8", "replace") + "…"
    try:
        found = msgspec.json.decode(event)
    except (ValueError, RecursionError):  # bytes that are not UTF-8 are no DecodeError
        return f"{len(event)} bytes that are not JSON" if paths else event.decode("utf-8", "replace")
    for path in paths:
        found = _masked(found, path)
    return found


def mask_text(text: str, paths: Sequence[Path]) -> str:
    """The same of a payload that is kept as text."""
    if not paths:
        return text
    found = shown(text.encode(), paths)
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _masked(value: Any, path: Path) -> Any:
    """What is at the path is replaced; through an array every element's is, whether the path has its place or
    not."""
    if not path:
        return MASK
    name, *rest = path
    if isinstance(value, dict) and name in value:
        return {**value, name: _masked(value[name], tuple(rest))}
    if isinstance(value, list):
        below = tuple(rest) if INDEX.fullmatch(name) else path
        return [_masked(one, below) for one in value]
    return value
