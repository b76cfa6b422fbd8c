"""What the ``spool`` commands do. Every function raises UserError; their results are ready for JSON."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ingestd.app.state_place import directory_of
from ingestd.core.errors import NotFound, UserError
from ingestd.store.connection import FILE_NAME
from ingestd.store.lock import holder_of
from ingestd.store.parked_sinks import is_held, read_parked, set_parked
from ingestd.store.spool_inspection import SpoolInspection

_LOOK_S = 0.05


def stat(state_dir: str | None, *, now: float) -> dict[str, Any]:
    """How much waits, since when, and which damage was ever found."""
    directory = directory_of(state_dir)
    stock = SpoolInspection(directory).stock()
    parked = read_parked(directory / FILE_NAME)
    return {
        "events": stock.totals.events,
        "bytes": stock.totals.size_bytes,
        "chunks": stock.totals.chunks,
        "oldest_seconds": _age_s(stock.oldest_at, now),
        "file_bytes": stock.file_bytes,
        "sinks": [
            {"name": sink.name, "chunks_behind": sink.chunks, "oldest_seconds": _age_s(sink.oldest_at, now)}
            for sink in stock.sinks
        ],
        "parked": {sink: _age_s(at, now) for sink, at in sorted(parked.items())},
        "damage": [damage._asdict() for damage in stock.damage],
    }


def check(state_dir: str | None) -> dict[str, Any]:
    """Every chunk against its checksum: ``checked``, ``bad`` (their numbers), ``problems`` in words."""
    found = SpoolInspection(directory_of(state_dir)).check()
    return {"checked": found.checked, "bad": found.bad, "problems": found.problems}


def forget_damage(state_dir: str | None) -> int:
    """Clear the list of damage that was found before; gives how many entries it had."""
    return SpoolInspection(directory_of(state_dir)).forget_damage()


def events(state_dir: str | None, *, damaged: bool) -> Iterator[bytes]:
    """Each in one line, in the order of acceptance. ``damaged``: what is left of damaged chunks instead."""
    for event in SpoolInspection(directory_of(state_dir)).events(damaged=damaged):
        yield b" ".join(event.splitlines())


def forget(
    state_dir: str | None, sink: str, *, confirm: Callable[[dict[str, int]], object] | None = None
) -> dict[str, int]:
    """Drop what waits for a sink; gives ``chunks``, ``events``, ``gone``, ``unconfirmed``.

    ``confirm`` is called with what would be dropped, and may raise. Raises UserError: another process has the
    directory, or the spool waits for no such sink.
    """
    from ingestd.app.letters.purge import beside_log
    from ingestd.telemetry.audit_entry import AuditEntry

    directory = directory_of(state_dir)
    if confirm:
        confirm(_forget(directory, sink, count_only=True))
    dropped = _forget(directory, sink, count_only=False)
    with beside_log(directory) as audit:
        audit(AuditEntry.SINK_FORGOTTEN, sink=sink, **dropped)
    return dropped


class ParkResult(NamedTuple):
    """``changed``: it was not so before. ``sends_still``: the process that did not say in time that nothing
    is sent to the sink any more; empty: it has, or there is none."""

    changed: bool
    sends_still: str = ""


def park(state_dir: str | None, sink: str, *, on: bool, who: str = "", wait_s: float = 0.0) -> ParkResult:
    """Set a sink aside, or no longer (``on`` False), beside a running service or before the next start.
    ``wait_s``: how long a running service may take to have no request to it out. Raises UserError."""
    from ingestd.app.event_loop import run_loop
    from ingestd.app.letters.purge import beside_log
    from ingestd.core.clock import SystemClock
    from ingestd.core.text import cut, suggestion
    from ingestd.store.letter_reader import LetterReader
    from ingestd.telemetry.audit_entry import AuditEntry

    directory = directory_of(state_dir)
    with LetterReader.open(directory) as reader:
        known: list[str] = json.loads(reader.setting("sinks") or "[]")
    if sink not in known and on:
        raise NotFound(f"there is no sink {cut(sink)} here{suggestion(sink, known)}")
    changed = set_parked(directory, sink, SystemClock.wall() if on else None)
    if changed:
        with beside_log(directory) as audit:
            state = "person" if on else "resumed"
            audit(AuditEntry.SINK_PARKED, sink=sink, state=state, reason="by a person", who=who or None)
    if not (on and wait_s):
        return ParkResult(changed)
    return ParkResult(changed, run_loop(partial(_until_held, directory, sink, wait_s)))


async def _until_held(directory: Path, sink: str, wait_s: float) -> str:
    """Empty, or the process that still sends when the time is over."""
    from ingestd.core.clock import SystemClock

    clock = SystemClock()
    until = clock.monotonic() + wait_s
    while holder := holder_of(directory):
        with suppress(sqlite3.Error):  # busy: the next time will do
            if is_held(directory, sink):
                return ""
        if clock.monotonic() > until:
            return holder
        await clock.sleep(_LOOK_S)
    return ""


def _forget(directory: Path, sink: str, *, count_only: bool) -> dict[str, int]:
    from ingestd.app.event_loop import run_loop
    from ingestd.store.database import Database
    from ingestd.store.lock import DirectoryInUse, DirectoryLock
    from ingestd.store.spool_rows import count_forgotten, forget_sink

    async def work() -> dict[str, int] | None:
        lock, database = DirectoryLock(directory), Database(directory)
        try:
            await database.open()
            found = await database.run(
                lambda connection: (count_forgotten if count_only else forget_sink)(connection, sink)
            )
            return found._asdict() if found else None
        finally:
            await database.close()
            lock.release()

    try:
        found = run_loop(work)
    except DirectoryInUse as error:
        raise UserError(f"process {error.holder} uses {directory}: stop it first") from None
    if found is None:
        from shlex import quote

        raise UserError(
            f"no events in {directory} wait for a sink named {sink}:"
            f" see `ingestd spool stat --state-dir {quote(str(directory))}`"
        )
    return found


def _age_s(at: float | None, now: float) -> float | None:
    return None if at is None else max(0.0, now - at)
