"""``ingestd routes``: which sinks an event would reach, and why."""

import json
from typing import Any

import click

MAX_INPUT_BYTES = 16 * 1024**2


@click.group(short_help="Show which sinks an event reaches, and why.")
def routes() -> None:
    """Events go to the sinks whose pattern they match: `when`, in the EventBridge pattern language.

    \b
    [sinks.crm]
    type = "webhook"
    url = "https://crm.example.com/events"
    when.routingMetadata.actionType = ["ANSWER", {prefix = "TRANS"}]

    \b
    Examples:
      ingestd routes test --config ingestd.toml '{"routingMetadata":{"actionType":"ANSWER"}}'
      ingestd routes test --config ingestd.toml events.ndjson
      ingestd dlq show 17 --payload | ingestd routes test --config ingestd.toml -
    """


@routes.command(short_help="Print which sinks each event reaches, and why.")
@click.argument("event", metavar="EVENT|FILE|-")
@click.option("--config", "config_file", metavar="FILE", help="TOML configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each event.")
def test(event: str, config_file: str | None, as_json: bool) -> None:
    """Print which sinks each event reaches and why, and what transforms make of it; nothing is sent.

    EVENT is JSON text, FILE (or @FILE) holds one event or one a line, - is standard input.

    \b
    Example:
      ingestd routes test --config ingestd.toml \\
          '{"eventType":"call","attributes":{"priority":3}}'
      event 1 reaches: lake
        yes  lake  it takes every event
        no   crm   attributes.priority is 3, expected a number at least 5

    \b
    Exit codes: 0 every event reaches a sink; 3 some reach none; 2 usage or configuration.
    """
    from ingestd.app.routes import explain

    configured, explained = explain(_text_of(event), config_file)
    if not configured and not as_json:
        click.echo("no [sinks] are configured: every event goes to ingest_api")
    unmatched = 0
    for found in explained:
        unmatched += not found["reaches"]
        click.echo(json.dumps(found) if as_json else _as_text(found))
    raise SystemExit(3 if unmatched else 0)


def _text_of(event: str) -> bytes:
    """Raises UserError for a file that cannot be read or is too long."""
    from ingestd.cli.input import read_file
    from ingestd.core.errors import UserError

    if event.lstrip()[:1] in ("{", "["):
        return event.encode(errors="surrogateescape")
    name = event.removeprefix("@")
    try:
        text = read_file(name, MAX_INPUT_BYTES)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UserError(f"{name[:200]!r} is neither an event in JSON nor a file to read: {why}") from None
    if len(text) > MAX_INPUT_BYTES:
        raise UserError(f"{name!r} is longer than {MAX_INPUT_BYTES} bytes: test with a part of it")
    return text


def _as_text(found: dict[str, Any]) -> str:
    reached = ", ".join(found["reaches"])
    width = max(len(one["sink"]) for one in found["sinks"])
    rows = [f"event {found['event']} " + (f"reaches: {reached}" if reached else "reaches no sink")]
    for one in sorted(found["sinks"], key=lambda one: not one["matches"]):
        answer = click.style("yes", fg="green") if one["matches"] else click.style("no ", fg="yellow")
        rows.append(f"  {answer}  {one['sink']:<{width}}  {one['why']}")
        if gets := one.get("gets"):
            text = f"gets {gets['event']}" if "event" in gets else f"{gets['instead']}: {gets['why']}"
            rows.append(f"       {'':<{width}}  {text}")
    return "\n".join(rows)
