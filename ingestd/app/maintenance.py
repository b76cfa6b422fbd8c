"""What both lives of the process do beside their work."""

import sqlite3
from contextlib import suppress

from ingestd.config import Login
from ingestd.core.address import show_url
from ingestd.core.errors import UserError
from ingestd.core.units import counted, human_seconds, rfc3339
from ingestd.store import origin
from ingestd.store.dead_letters import forget_delivered
from ingestd.store.letter_queue import count_letters as count_letters_in
from ingestd.telemetry import log
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.wiring.pipeline import Pipeline, Warn

FORGET_LETTERS = 2_500
"""At a time: 5,000 a second, as fast as they can be delivered, and no producer waits long for it."""


async def watch_states(pipeline: Pipeline) -> None:
    """Once a second, also while the store waits for its disk."""
    while True:
        await pipeline.clock.sleep(pipeline.bounds.look_at_states_s)
        pipeline.states.look()


async def maintain(pipeline: Pipeline, *, count_letters: bool | None = None) -> None:
    """Twice a second: what was noted becomes durable although nothing is sent; gauges and files are fresh."""
    window = pipeline.settings.window
    if count_letters is None:
        count_letters = pipeline.settings.metrics.port is not None
    ticks, logged, behind = 0, "", False
    bounds = pipeline.bounds
    count_ticks = round(bounds.count_letters_s / bounds.maintenance_s)
    while True:
        await pipeline.clock.sleep(bounds.maintenance_s)
        await pipeline.journal.commit()
        pipeline.audit.flush()
        _look_at_lock(pipeline)
        if (problem := pipeline.audit.problem) != logged:
            logged = problem
            if problem:
                log.error(f"{problem}; events are delivered all the same")
            else:
                log.warning("the audit log is written again; its line AUDIT_RESUMED says what is missing")
        if ticks % 10 == 0 or behind:
            behind = await _forget_letters(pipeline)
        if ticks % count_ticks == 0 and count_letters:
            with suppress(sqlite3.Error):  # busy: the next time will do
                pipeline.metrics.letters = await count_letters_in(pipeline.database.reads)
        ticks += 1
        if ticks % 2 == 0:
            pipeline.watch.look()
        if ticks % 60 == 0:
            not_before = pipeline.clock.wall() - window.max_age
            pipeline.keys.trim(not_before=not_before, max_count=window.max_count)


async def _forget_letters(pipeline: Pipeline) -> bool:
    """A piece of the letters that were delivered long ago; gives whether there may be more."""
    before = pipeline.clock.wall() - pipeline.settings.letters.retention
    gone = await pipeline.database.run(lambda c: forget_delivered(c, before, most=FORGET_LETTERS))
    return gone == FORGET_LETTERS


def warn_keys(pipeline: Pipeline, warn: Warn) -> None:
    """Say so, now and then, when no event has a key that was asked for: nothing else would show it."""
    for watch in pipeline.watches:
        if news := watch.news():
            warn(news)


def _look_at_lock(pipeline: Pipeline) -> None:
    try:
        found = pipeline.lock.look()
    except (OSError, UserError) as error:
        found = f"the lock of the state directory cannot be looked at: {error}"
    if found and found != pipeline.database.repaired:
        pipeline.database.repaired = found
        log.warning(found)


async def compare_api(pipeline: Pipeline, login: Login | None, warn: Warn) -> None:
    """Say so when this state directory was used with another API before."""
    if login is None:
        return
    api = show_url(login.api)  # what is kept has no secrets, nor has what is compared with it
    before = await pipeline.journal.remember("api", api)
    await pipeline.journal.remember("token_url", show_url(login.token_url or ""))
    await pipeline.journal.remember("schema", pipeline.settings.schema_.name)
    await pipeline.journal.remember("dedup_key", pipeline.settings.schema_.dedup_key)
    if before is not None and show_url(before) != api and not _both_local(before, api):
        warn(
            f"this state directory was used with {show_url(before)} before: its checkpoints and dead letters"
            f" are taken to be of {api} too; give each API a --state-dir of its own"
        )


def warn_restored(pipeline: Pipeline, warn: Warn) -> None:
    """Say so, and what follows, when the state directory is a copy that was put back."""
    found = origin.look(pipeline.database.path.parent)
    if found is None:
        return
    now = pipeline.clock.wall()
    last = rfc3339(found.last_at) if found.last_at else "not known"
    age = f" ({human_seconds(max(0.0, now - found.last_at))} ago)" if found.last_at else ""
    waits = f"{counted(found.events, 'event')} of its spool and {counted(found.letters, 'dead letter')}"
    pipeline.audit(
        AuditEntry.STATE_RESTORED,
        last=last,
        events=found.events,
        batches=found.batches,
        dead_letters=found.letters,
    )
    requests = counted(found.batches, "request")
    warn(
        f"the state directory was restored, or copied: the last that it knows is of {last}{age}. What was"
        f" accepted since then is not in it. {waits} wait: what of them was delivered since then is sent"
        f" again, under its old key where its request was on its way ({requests}), else under a new one."
        " Copies of later events are not recognised, and files are read again from where they were"
    )


def _both_local(*urls: str) -> bool:
    return all(url.startswith(("http://127.0.0.1", "http://localhost")) for url in urls)
