"""What sources at brokers have in common besides the contract of sources."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from ingestd.core import redaction
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.units import human_seconds
from ingestd.telemetry import log

_MAX_SECRET_BYTES = 64 * 1024


class BrokerAway(UserError):
    """It cannot be reached, or does not serve what is to be read: that may end by itself."""


class SourceCounts(msgspec.Struct, rename={"problem": "trouble"}):
    """For metrics and ``/v1/status``; ``messages``, ``redelivered`` and ``lost`` never fall. ``pending``:
    messages that are yet to be given out; ``unacked``: that are on their way; ``stranded``: that nobody will
    be given; ``lost``: that the broker deleted before they were read, at most. ``unnamed``: batches that
    were sent though the next owner of their partition would not know them. ``partitions``: that this process
    owns. ``last_message``: when the last one came (wall time). ``problem``: why nothing comes, while that is
    so; ``trouble`` in ``/v1/status``. ``gaps``: times when nobody listened to what cannot be read again;
    ``last_gap``: from when to when."""

    connected: bool = False
    messages: int = 0
    redelivered: int = 0
    pending: int = 0
    unacked: int = 0
    stranded: int = 0
    lost: int = 0
    unnamed: int = 0
    partitions: int = 0
    last_message: float = 0.0
    problem: str = ""
    gaps: int = 0
    gap_seconds: float = 0.0
    last_gap: str = ""


class Outage:
    """While nothing comes of the source ``name``: why is in its counts, and told by ``warn``. That it works
    again is no warning: ``inform`` tells that."""

    def __init__(
        self,
        name: str,
        counts: SourceCounts,
        warn: Callable[[str], None],
        clock: Clock,
        *,
        inform: Callable[[str], None] = log.info,
    ) -> None:
        self._name = name
        self._counts = counts
        self._warn, self._inform = warn, inform
        self._clock = clock
        self._reported_at: float | None = None
        self.is_on = False

    def goes_on(self, why: str, *, reported: bool) -> None:
        """``reported``: it is time for a line of the log."""
        self.is_on = True
        self._counts.connected, self._counts.problem = False, why
        if reported:
            self._warn(f"{self._name}: {why}; it is tried again")
            self._reported_at = self._clock.monotonic() if self._reported_at is None else self._reported_at

    def ends(self, at: float | None = None) -> None:
        """Also where there was none. A line of the log says so if one said that it began. ``at``: when it
        did (monotonic); None: now."""
        self.is_on = False
        self._counts.connected, self._counts.problem = True, ""
        if self._reported_at is not None:
            away_s = (self._clock.monotonic() if at is None else at) - self._reported_at
            self._inform(f"{self._name}: works again, after {human_seconds(away_s)}")
            self._reported_at = None


def watch_tasks(tasks: Iterable[asyncio.Task[Any]], news: asyncio.Event) -> None:
    """The task that waits for ``news`` is woken when one of them ends, and calls ``raise_failure``."""
    for task in tasks:
        task.add_done_callback(lambda _: news.set())


def raise_failure(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """A fault of ours must not leave a source that stands still without a word. Raises that fault."""
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()):
            raise error


def secret_of(value: str, file: str, what: str) -> str:
    """``value``, or what the file holds; empty if there is neither. Raises UserError."""
    if file:
        try:
            with Path(file).open("rb") as opened:
                value = opened.read(_MAX_SECRET_BYTES).decode("utf-8-sig").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UserError(f"cannot read the {what} from {file}: {why}") from None
        if not value:
            raise UserError(f"{file} holds no {what}")
        redaction.hide(value)
    return value
