"""``ingestd spool``: what producers were told is taken over and has not had its end."""

import json
import sys

import click

_state_dir = click.option("--state-dir", metavar="DIR", help="The directory that `ingestd run` uses.")
_as_json = click.option("--json", "as_json", is_flag=True)


@click.group(short_help="Look into the spool of `ingestd run`.")
def spool() -> None:
    """The spool holds what was acknowledged and is not delivered yet. Safe beside a running service.

    \b
    Examples:
      ingestd spool stat --state-dir /var/lib/ingestd
      ingestd spool check                      every chunk against its checksum
      ingestd spool dump > waiting.ndjson      the events, as they were accepted
    """


@spool.command()
@_state_dir
@_as_json
def stat(state_dir: str | None, as_json: bool) -> None:
    """How much waits, since when, and what was ever found damaged."""
    import time

    from ingestd.cli.letters import directory_of
    from ingestd.core.units import human_seconds
    from ingestd.store.spool_inspection import SpoolInspection

    stock = SpoolInspection(directory_of(state_dir)).stock()
    oldest_s = None if stock.oldest_at is None else max(0.0, time.time() - stock.oldest_at)
    if as_json:
        told = {
            "events": stock.totals.events,
            "bytes": stock.totals.size_bytes,
            "chunks": stock.totals.chunks,
            "oldest_seconds": oldest_s,
            "file_bytes": stock.file_bytes,
            "damage": [damage._asdict() for damage in stock.damage],
        }
        click.echo(json.dumps(told))
        return
    since = f", the oldest for {human_seconds(oldest_s)}" if oldest_s is not None else ""
    totals = stock.totals
    click.echo(f"{totals.events} events ({totals.size_bytes} bytes) in {totals.chunks} chunks{since}")
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
    from ingestd.cli.letters import directory_of
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
    from ingestd.cli.letters import directory_of
    from ingestd.store.spool_inspection import SpoolInspection

    write = sys.stdout.buffer.write
    for event in SpoolInspection(directory_of(state_dir)).events(damaged=damaged):
        write(b" ".join(event.splitlines()) + b"\n")
    sys.stdout.buffer.flush()
