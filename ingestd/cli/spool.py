"""``ingestd spool``: acknowledged events, on disk until they are resolved."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from ingestd.cli.options import spool_options, state_options

WAIT_S = 30.0
"""Longer than a request may take (delivery.request_timeout)."""
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Look into the spool of `ingestd run`.")
def spool() -> None:
    """The spool holds what was acknowledged and is not delivered yet. Safe beside a running service.

    \b
    Examples:
      ingestd spool stat --state-dir /var/lib/ingestd
      ingestd spool check                      every chunk against its checksum
      ingestd spool dump > waiting.ndjson      the events, as they were accepted
      ingestd spool park crm                   set a sink aside: it takes no room from the others
      ingestd spool resume crm
      ingestd spool probe crm --config FILE    do not wait for the next try of a sink
      ingestd spool forget crm                 drop events that wait for a removed sink

    \b
    Where spool.kind is nats, with --config: init, check, stat, park, resume, probe, forget, resize.
    """


@spool.command(short_help="Make the streams of a spool on NATS.")
@click.option("--config", "config_file", metavar="FILE", help="TOML configuration.")
@click.pass_context
def init(ctx: click.Context, config_file: str | None) -> None:
    """Make the streams of a spool on NATS, and what all its edges and workers share. Safe to repeat."""
    from ingestd.app.cluster import spool as app
    from ingestd.config import load

    settings = load(config_file, {})
    made = app.init(settings)
    click.echo(f"spool {settings.spool.name}: {'made' if made else 'it is there'}")
    ctx.exit(_print_findings(app.check(settings), as_json=False))


@spool.command(short_help="Change the number of partitions of a spool on NATS.")
@click.argument("partitions", type=click.IntRange(1, 64))
@click.option("--config", "config_file", metavar="FILE", help="TOML configuration.")
def resize(partitions: int, config_file: str | None) -> None:
    """Change the number of partitions of a spool on NATS, while events come. What is in the old ones is
    delivered first."""
    from ingestd.app.cluster.resize import resize as change
    from ingestd.config import load

    done = change(load(config_file, {}), partitions)
    click.echo(
        f"{done.before} partitions are {partitions} now: set spool.partitions = {partitions} everywhere"
    )
    if not done.drained:
        click.echo(
            "no worker is there: what is in the old partitions is delivered, before what is in the new ones,"
            " once one runs"
        )


@spool.command()
@spool_options
@_as_json
def stat(state_dir: str | None, settings: Any, as_json: bool) -> None:
    """Show how much waits, since when, and which damage was ever found."""
    if settings:
        _stat_on_nats(settings, as_json=as_json)
        return
    from ingestd.app import spool as app

    found = app.stat(state_dir, now=time.time())
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(
        f"{found['events']} events ({found['bytes']} bytes) in {found['chunks']} chunks"
        f"{_since(found['oldest_seconds'])}"
    )
    for sink in found["sinks"]:
        click.echo(f"{sink['name']}: {sink['chunks_behind']} chunks behind{_since(sink['oldest_seconds'])}")
    for sink, age_s in found["parked"].items():
        click.echo(f"{sink}: parked{_since(age_s).replace(', the oldest', '')}")
    click.echo(f"{found['file_bytes']} bytes on disk, dead letters and journal included")
    for damage in found["damage"]:
        click.echo(f"damaged: chunks {damage['first']} to {damage['last']}: {damage['what']}")


@spool.command()
@spool_options
@_as_json
@click.option("--forget", is_flag=True, help="Clear the list of damage that was found before.")
@click.pass_context
def check(ctx: click.Context, state_dir: str | None, settings: Any, as_json: bool, forget: bool) -> None:
    """Check every chunk. Exit code 0 if all is well, 1 if something is damaged or missing."""
    if settings:
        from ingestd.app.cluster import spool as cluster

        ctx.exit(_print_findings(cluster.check(settings), as_json=as_json))
    from ingestd.app import spool as app

    if forget:
        click.echo(f"{app.forget_damage(state_dir)} entries forgotten", err=as_json)
    found = app.check(state_dir)
    if as_json:
        click.echo(json.dumps(found))
    else:
        for problem in found["problems"]:
            click.echo(f"BAD  {problem}")
        click.echo(f"{found['checked']} chunks checked, {len(found['problems'])} problems")
    ctx.exit(1 if found["problems"] else 0)


@spool.command(short_help="Write the events to standard output as NDJSON.")
@state_options
@click.option("--damaged", is_flag=True, help="Print the raw remains of damaged chunks instead.")
def dump(state_dir: str | None, damaged: bool) -> None:
    """Write the events to standard output as NDJSON, in the order of acceptance."""
    from ingestd.app import spool as app

    for event in app.events(state_dir, damaged=damaged):
        sys.stdout.buffer.write(event + b"\n")
    sys.stdout.buffer.flush()


@spool.command(short_help="Drop the events that wait for a removed sink.")
@click.argument("sink", metavar="SINK")
@spool_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@_as_json
def forget(sink: str, state_dir: str | None, settings: Any, yes: bool, as_json: bool) -> None:
    """Drop the events that wait for a sink, so that a start without it is possible. Asks first.

    Chunks that no other sink waits for are deleted. If the sink is configured again, it gets the events that
    are accepted from then on. Its dead letters stay: see `ingestd dlq list --sink`.
    """

    def confirm(would: dict[str, int]) -> None:
        click.confirm(f"Drop {_words(would, sink)}?", abort=True, err=True)

    ask = None if yes else confirm
    if settings:
        from ingestd.app.cluster import forget as cluster

        dropped = cluster.forget(settings, sink, confirm=ask)
        if cluster.is_configured(settings, sink):
            begins = "it gets what is accepted from its next start on"
            click.echo(f"{sink} is in this configuration: {begins}", err=True)
    else:
        from ingestd.app import spool as app

        dropped = app.forget(state_dir, sink, confirm=ask)
    if as_json:
        click.echo(json.dumps({"sink": sink} | dropped if settings else dropped))
    else:
        click.echo(f"dropped {_words(dropped, sink)}")


@spool.command(short_help="Set a sink aside: nothing is sent there until it is resumed.")
@click.argument("sink", metavar="SINK")
@spool_options
def park(sink: str, state_dir: str | None, settings: Any) -> None:
    """Set a sink aside, also beside a running service: nothing is sent there until it is resumed.

    Beside a running service it returns when no request to the sink is out any more; after 30 s with exit code
    3.

    Its events stay in the spool, in their order, and take no room from the others, up to spool.max_parked.

    Where spool.kind is nats, with --config: all workers obey.
    """
    if settings:
        _park_on_nats(settings, sink)
        return
    from ingestd.app import spool as app

    done = app.park(state_dir, sink, on=True, wait_s=WAIT_S)
    if done.sends_still:
        after = f"after {WAIT_S:.0f} s process {done.sends_still} still has a request to it out"
        click.echo(f"{sink} is parked, but {after}")
        raise SystemExit(3)
    click.echo(f"{sink} is parked" if done.changed else f"{sink} was parked before")


@spool.command()
@click.argument("sink", metavar="SINK")
@spool_options
def resume(sink: str, state_dir: str | None, settings: Any) -> None:
    """Send to a parked sink again, from where it was."""
    if settings:
        from ingestd.app.cluster import park as cluster

        done = cluster.park(settings, sink, on=False, wait_s=0.0)
        click.echo(f"{sink} is resumed" if done.changed else f"{sink} was not parked")
        if done.room:
            click.echo(done.room, err=True)
        return
    from ingestd.app import spool as app

    resumed = app.park(state_dir, sink, on=False).changed
    not_by_a_person = "was not parked by a person; one at its max_backlog is back once it has caught up"
    click.echo(f"{sink} is resumed" if resumed else f"{sink} {not_by_a_person}")


@spool.command(short_help="Try a sink of a spool on NATS at once.")
@click.argument("sink", metavar="SINK")
@spool_options
@_as_json
def probe(sink: str, state_dir: str | None, settings: Any, as_json: bool) -> None:
    """Do not wait for the next try of a sink, once its API is back: all workers of a spool on NATS are asked.
    Exit code 3 if some workers do not answer.

    A service on a state file is asked by its console, or by POST /v1/sinks/SINK/probe.
    """
    if not settings:
        raise click.UsageError(
            f"The spool in {state_dir} is not on NATS: its service is asked by its console, or by"
            f" POST /v1/sinks/{sink}/probe at its admin address."
        )
    from ingestd.app.cluster import probe as app

    found = app.probe_all(settings, sink)
    if as_json:
        click.echo(json.dumps({"sink": sink, "probing": found.probing, "silent": found.silent}))
    else:
        for line in found.words():
            click.echo(line)
    raise SystemExit(3 if found.silent else 0)


def _park_on_nats(settings: Any, sink: str) -> None:
    from ingestd.app.cluster import park as app

    done = app.park(settings, sink, on=True, wait_s=WAIT_S)
    for worker, out in done.late:
        still = "has not said that it obeys" if out is None else f"still has {out} requests to it out"
        where = f"worker {worker.name} (process {worker.pid} on {worker.host})"
        click.echo(f"{sink} is parked, but after {WAIT_S:.0f} s {where} {still}")
    if not done.obeyed_by.anybody:
        click.echo(
            f"no worker of {sink} is there: the next one reads that it is parked before it sends; one that"
            " stands still may send what it had begun",
            err=True,
        )
    if done.room:
        click.echo(done.room, err=True)
    if done.late:
        raise SystemExit(3)
    click.echo(f"{sink} is parked" if done.changed else f"{sink} was parked before")


def _stat_on_nats(settings: Any, *, as_json: bool) -> None:
    from ingestd.app.cluster import spool as app

    found = app.stat(settings)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(
        f"{found['name']}: {found['chunks']} chunks ({found['bytes']} bytes) in {found['partitions']}"
        f" partitions, {found['dead_letters']} dead letters"
    )
    for server, why in found["servers_down"].items():
        click.echo(f"{server} is down: {why}", err=True)
    for name, at in found["parked"].items():
        click.echo(f"{name}: parked{_since(max(0.0, time.time() - at)).replace(', the oldest', '')}")
    for sink in found["sinks"]:
        ends = ", ".join(f"{count} {name.replace('_', '-')}" for name, count in app.outcomes(sink).items())
        click.echo(
            f"{sink['name']}: {sink['accepted']} accepted = {ends or '0 resolved'},"
            f" {sink['in_flight']} in flight ({sink['bytes_waiting']} bytes wait)"
            + (f"; {sink['retried']} of the dead-lettered were delivered later" if sink["retried"] else "")
        )
        if not sink["configured"]:
            click.echo(
                f"{sink['name']} is not in this configuration, and its events go on to gather:"
                f" `ingestd spool forget {sink['name']} --config FILE` drops them"
            )
        if not app.is_balanced(sink):
            click.echo(f"{sink['name']}: the ledger does not balance", err=True)


def _print_findings(findings: Sequence[Any], *, as_json: bool) -> int:
    """The exit code: 1 if something fails."""
    if as_json:
        click.echo(json.dumps([one._asdict() for one in findings]))
    else:
        for one in findings:
            click.echo(f"{one.level:4} {one.text}")
    return 1 if any(one.level == "FAIL" for one in findings) else 0


def _words(found: dict[str, int], sink: str) -> str:
    text = f"up to {found['events']} events of sink {sink}"
    text += f" ({found['chunks']} chunks; no other sink waits for {found['gone']} of them)"
    text += f", {found['in_batches']} events in batches on their way" if found.get("in_batches") else ""
    return text + (f" and {found['unconfirmed']} unconfirmed events" if found.get("unconfirmed") else "")


def _since(age_s: float | None) -> str:
    from ingestd.core.units import human_seconds

    return "" if age_s is None else f", the oldest for {human_seconds(age_s)}"
