"""``ingestd tap``: events of a running service as they pass."""

import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import click

from ingestd.cli.options import admin_options

_COLOURS = {"delivered": "green", "rejected": "red", "dead_lettered": "red", "duplicate": "yellow"}


@click.command(short_help="Look at events of a running service as they pass.")
@admin_options
@click.option("--sink", metavar="NAME", default="", help="Only what becomes of events at this sink.")
@click.option(
    "--what",
    type=click.Choice(["accepted", "duplicate", "rejected", "delivered", "dead_lettered", "dropped"]),
    help="Only events with this outcome.",
)
@click.option("--when", metavar="PATTERN", default="", help="Only events that match, as in a sink's `when`.")
@click.option("--limit", type=click.IntRange(0), default=0, metavar="N", help="End after so many [0: never].")
@click.option("--config", "config_file", metavar="FILE", help="Of a spool on NATS: all its processes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def tap(
    url: str,
    token_file: str | None,
    sink: str,
    what: str | None,
    when: str,
    limit: int,
    config_file: str | None,
    as_json: bool,
) -> None:
    """Look at events of a running service as they pass: accepted, duplicate, rejected, delivered.

    These are samples, at most 200 a second: the service is never slowed down. What admin.redact names is
    masked. URL is the admin address (http://127.0.0.1:9464); instead --config names a spool on NATS, and its
    edges and workers are asked. Ctrl-C ends it.

    \b
    Examples:
      ingestd tap --limit 10
      ingestd tap --what rejected
      ingestd tap --config /etc/ingestd.toml
      ingestd tap --sink crm --when '{"attributes": {"priority": [{"numeric": [">", 5]}]}}'
    """
    show = partial(_show, as_json=as_json)
    if config_file:
        from ingestd.app.cluster import tap as cluster
        from ingestd.config import load

        settings = load(config_file, {})
        cluster.tap(settings, sink=sink, what=what or "", when=when, limit=limit, on_line=show)
        return
    from ingestd.app.admin_client import AdminClient

    query = {"sink": sink, "what": what or "", "when": when, "limit": limit or ""}
    with AdminClient(url, token_file=token_file) as client:
        for line in client.lines("/v1/tap", **query):
            show(line)


def _show(line: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(line))
    elif "missed" in line:
        click.echo(f"… {line['missed']:,} more passed", err=True)
    elif "note" in line:
        click.echo(f"… {line['note']}", err=True)
    else:
        click.echo(_row(line))
    sys.stdout.flush()


def _row(line: Mapping[str, Any]) -> str:
    from ingestd.core.text import printable

    what = click.style(f"{line['what']:13}", fg=_COLOURS.get(line["what"]))
    where = " ".join(printable(line[name]) for name in ("sink", "why") if line[name])
    event = line["event"] if isinstance(line["event"], str) else json.dumps(line["event"], ensure_ascii=False)
    return f"{line['time'][11:23]} {what} {where + '  ' if where else ''}{printable(event)}"
