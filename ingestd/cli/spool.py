"""``ingestd spool``: what producers were told is taken over and has not had its end."""

import json
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ingestd.store.spool_rows import ForgottenEvents

_state_dir = click.option("--state-dir", metavar="DIR", help="The directory that `ingestd run` uses.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Look into the spool of `ingestd run`.")
def spool() -> None:
    """The spool holds what was acknowledged and is not delivered yet. Safe beside a running service.

    \b
    Examples:
      ingestd spool stat --state-dir /var/lib/ingestd
      ingestd spool check                      every chunk against its checksum
      ingestd spool dump > waiting.ndjson      the events, as they were accepted
      ingestd spool forget crm                 give up what waits for a sink that is gone
    """


@spool.command()
@_state_dir
@_as_json
def stat(state_dir: str | None, as_json: bool) -> None:
    """How much waits, since when, and what was ever found damaged."""
    from ingestd.app.letters.letters import directory_of
    from ingestd.store.spool_inspection import SpoolInspection

    stock = SpoolInspection(directory_of(state_dir)).stock()
    oldest_s = _age_s(stock.oldest_at)
    if as_json:
        told = {
            "events": stock.totals.events,
            "bytes": stock.totals.size_bytes,
            "chunks": stock.totals.chunks,
            "oldest_seconds": oldest_s,
            "file_bytes": stock.file_bytes,
            "sinks": [
                {"name": sink.name, "chunks_behind": sink.chunks, "oldest_seconds": _age_s(sink.oldest_at)}
                for sink in stock.sinks
            ],
            "damage": [damage._asdict() for damage in stock.damage],
        }
        click.echo(json.dumps(told))
        return
    totals = stock.totals
    click.echo(
        f"{totals.events} events ({totals.size_bytes} bytes) in {totals.chunks} chunks{_since(oldest_s)}"
    )
    for sink in stock.sinks:
        click.echo(f"{sink.name}: {sink.chunks} chunks behind{_since(_age_s(sink.oldest_at))}")
    click.echo(f"{stock.file_bytes} bytes on disk, dead letters and journal included")
    for damage in stock.damage:
        click.echo(f"damaged: chunks {damage.first} to {damage.last}: {damage.what}")


@spool.command()
@_state_dir
@_as_json
@click.option("--forget", is_flag=True, help="Clear the list of damage that was found before.")
@click.pass_context
def check(ctx: click.Context, state_dir: str | None, as_json: bool, forget: bool) -> None:
    """Check every chunk. Exit code 0 if all is well, 1 if something is damaged or missing."""
    from ingestd.app.letters.letters import directory_of
    from ingestd.store.spool_inspection import SpoolInspection

    inspection = SpoolInspection(directory_of(state_dir))
    if forget:
        click.echo(f"{inspection.forget_damage()} entries forgotten", err=as_json)
    findings = inspection.check()
    if as_json:
        click.echo(
            json.dumps({"checked": findings.checked, "bad": findings.bad, "problems": findings.problems})
        )
    else:
        for problem in findings.problems:
            click.echo(f"BAD  {problem}")
        click.echo(f"{findings.checked} chunks checked, {len(findings.problems)} problems")
    ctx.exit(1 if findings.problems else 0)


@spool.command()
@_state_dir
@click.option("--damaged", is_flag=True, help="What is left of damaged chunks, raw, instead.")
def dump(state_dir: str | None, damaged: bool) -> None:
    """Write the events to standard output as NDJSON, in the order of acceptance."""
    from ingestd.app.letters.letters import directory_of
    from ingestd.store.spool_inspection import SpoolInspection

    write = sys.stdout.buffer.write
    for event in SpoolInspection(directory_of(state_dir)).events(damaged=damaged):
        write(b" ".join(event.splitlines()) + b"\n")
    sys.stdout.buffer.flush()


@spool.command()
@click.argument("sink", metavar="SINK")
@_state_dir
@click.option("--yes", is_flag=True, help="Do not ask.")
@_as_json
def forget(sink: str, state_dir: str | None, yes: bool, as_json: bool) -> None:
    """Give up what waits for a sink, so that a start without it is possible. Asks first.

    Chunks that no other sink waits for are deleted. Should the sink be configured again, it goes on with
    what is accepted from then on. Its dead letters stay: see `ingestd dlq list --sink`.
    """
    from ingestd.app.letters.letters import directory_of

    directory = directory_of(state_dir)
    would = _forget(directory, sink, count_only=True)
    if not yes:
        click.confirm(f"Give up {_words(would)}?", abort=True, err=True)
    given_up = _forget(directory, sink, count_only=False)
    click.echo(json.dumps(given_up._asdict()) if as_json else f"given up: {_words(given_up)}")


def _forget(directory: Path, sink: str, *, count_only: bool) -> "ForgottenEvents":
    """Raises UserError: another process has the directory, or the spool waits for no such sink."""
    from ingestd.app.event_loop import run_loop
    from ingestd.app.letters.letters import beside_log
    from ingestd.core.errors import UserError
    from ingestd.store.database import Database
    from ingestd.store.lock import DirectoryInUse, DirectoryLock
    from ingestd.store.spool_rows import count_forgotten, forget_sink
    from ingestd.telemetry.audit_entry import AuditEntry

    async def work() -> "ForgottenEvents | None":
        lock, database = DirectoryLock(directory), Database(directory)
        try:
            await database.open()
            return await database.run(
                lambda connection: (count_forgotten if count_only else forget_sink)(connection, sink)
            )
        finally:
            await database.close()
            lock.release()

    try:
        found = run_loop(work)
    except DirectoryInUse as error:
        raise UserError(f"process {error.holder} uses {directory}: stop it first") from None
    if found is None:
        raise UserError(
            f"the spool in {directory} waits for no sink {sink}:"
            f" see `ingestd spool stat --state-dir {quote(str(directory))}`"
        )
    if not count_only:
        with beside_log(directory) as audit:
            audit(AuditEntry.SINK_FORGOTTEN, sink=sink, **found._asdict())
    return found


def _words(found: "ForgottenEvents") -> str:
    told = (
        f"{found.chunks} chunks ({found.events} events at most), {found.gone} of which nobody else waits for"
    )
    if found.unconfirmed:
        told += f"; and {found.unconfirmed} events whose confirmation is due"
    return told


def _age_s(at: float | None) -> float | None:
    import time

    return None if at is None else max(0.0, time.time() - at)


def _since(age_s: float | None) -> str:
    from ingestd.core.units import human_seconds

    return "" if age_s is None else f", the oldest for {human_seconds(age_s)}"
