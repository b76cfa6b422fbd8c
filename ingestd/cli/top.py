"""``ingestd top``: the overview of a running service, live."""

import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ingestd.cli.options import admin_options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ingestd.app.admin_client import AdminClient

WIDE = 120
"""Columns from which on there is room for all."""
_STATES = {"closed": "works", "open": "away", "paused": "refuses", "parked": "parked"}
_PARKED = {"person": "by a person", "max_backlog": "at its max_backlog, back once it has caught up"}


@click.command(short_help="Watch a running service: rates, sinks, spool, dead letters.")
@admin_options
@click.option("--once", is_flag=True, help="Print it once, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once: print JSON.")
@click.option(
    "--every",
    type=click.FloatRange(0.5, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
def top(url: str, token_file: str | None, once: bool, as_json: bool, every: float) -> None:
    """Watch a running service: what comes in and goes out, each sink's state and why, the spool.

    URL is its admin address (http://127.0.0.1:9464). Ctrl-C ends it.

    \b
    Examples:
      ingestd top
      ingestd top http://10.0.0.7:9464 --token-file ~/.ingestd-token
      ingestd top --once --json
    """
    from ingestd.app.admin_client import AdminClient

    with AdminClient(url, token_file=token_file) as client:
        status = client.get("/v1/overview")
        if as_json:
            click.echo(json.dumps(status))
        else:
            _show(client, status, every=None if once or not sys.stdout.isatty() else every)


def _show(client: "AdminClient", status: Mapping[str, Any], *, every: float | None) -> None:
    """Once, or ``every`` so many seconds without end."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if every is None:
        console.print(render(status, console.width))
        return
    from rich.live import Live

    with Live(render(status, console.width), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(render(client.get("/v1/overview"), console.width), refresh=True)


def render(status: Mapping[str, Any], width: int) -> "RenderableType":
    """For a terminal of so many columns."""
    from rich.console import Group
    from rich.text import Text

    from ingestd.core.text import printable
    from ingestd.core.units import brief_seconds

    spool, ready = status["spool"], status["ready"]
    head = Text(f"ingestd {status['version']}, pid {status['pid']}, {status['state']} for ")
    head.append(f"{brief_seconds(status['now'] - status['started'])}: ")
    head.append("ready" if ready else "not ready", "green" if ready else "bold red")
    lines = [head, *(Text(printable(reason), "red") for reason in status["reasons"])]
    room = "" if spool["full_in"] is None else f", full in {brief_seconds(spool['full_in'])}"
    whose = f", most of it for {printable(spool['filled_by'])}" if spool["filled_by"] else ""
    aside = spool.get("parked_bytes", 0)  # a service of an older version does not say it
    held, parked = spool["bytes"] - aside, f", {_size(aside)} more for parked sinks" if aside else ""
    lines += [
        Text(f"in   {_rates(status['accepted'])}"),
        Text(f"out  {_rates(status['delivered'])}"),
        Text(
            f"spool {_size(held)} of {_size(spool['max_bytes'])}{room}{whose}{parked};"
            f" oldest undelivered {brief_seconds(spool['oldest'])}"
        ),
        Text(f"dead letters waiting: {status['letters'].get('waiting', 0):,}"),
    ]
    return Group(*lines, Text(), _sinks(status, width), *_producers(status, width))


def _sinks(status: Mapping[str, Any], width: int) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from ingestd.core.text import printable
    from ingestd.core.units import brief_seconds

    wide, below = width >= WIDE, list[Text]()
    table = Table(box=None, pad_edge=False, expand=True)
    for name in ("sink", "state", "rate/s", "p50", "p99", "oldest", "behind", "dead"):
        table.add_column(
            name, justify="left" if name in ("sink", "state") else "right", no_wrap=name != "sink"
        )
    if wide:
        table.add_column("last success", justify="right", no_wrap=True)
        table.add_column("why", ratio=1)
    for sink in status["sinks"]:
        works = sink["state"] == "closed"
        since = brief_seconds(status["now"] - sink["since"])
        why = "" if works and not sink["why"] else printable(sink["why"])
        if sink["parked"]:
            why = "; ".join(filter(None, (f"parked {_PARKED[sink['parked']]}", why)))
        if sink["next_probe"] is not None:
            why += f"; tried again in {brief_seconds(sink['next_probe'])}"
        cells: list[RenderableType] = [
            Text(printable(sink["name"])),
            Text(f"{_STATES[sink['state']]} {since}", "green" if works else "bold red"),
            f"{sink['rates']['now']:,.0f}",
            *(_milliseconds(sink[one]) for one in ("p50", "p99")),
            "" if sink["oldest"] is None else brief_seconds(sink["oldest"]),
            f"{sink['behind_chunks']:,}",
            f"{sink['dead_lettered']:,}",
        ]
        if wide:
            last = sink["last_success"]
            cells += ["never" if last is None else f"{brief_seconds(status['now'] - last)} ago", Text(why)]
        table.add_row(*cells)
        if why and not wide:
            below.append(Text(f"{printable(sink['name'])}: {why}", "dim"))
    return Group(table, *below)


def _producers(status: Mapping[str, Any], width: int) -> "list[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    from ingestd.core.text import printable

    if not status["producers"]:
        return []
    table = Table(box=None, pad_edge=False)
    for name in ("producer", "now/s", "5 min/s", "1 h/s", "accepted"):
        table.add_column(name, justify="left" if name == "producer" else "right", no_wrap=True)
    for one in status["producers"]:
        rates = (f"{one['rates'][name]:,.1f}" for name in ("now", "five_minutes", "hour"))
        table.add_row(Text(printable(one["name"])), *rates, f"{one['accepted']:,}")
    return [Text(), table]


def _rates(rates: Mapping[str, float]) -> str:
    now, minutes, hour = (f"{rates[name]:,.1f}" for name in ("now", "five_minutes", "hour"))
    return f"{now}/s now, {minutes}/s in 5 minutes, {hour}/s in an hour"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _size(value: int) -> str:
    from ingestd.core.units import human_size

    return human_size(value)
