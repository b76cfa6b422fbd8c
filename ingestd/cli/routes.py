"""``ingestd routes``: which sinks an event would reach, and why."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ingestd.processing.routes import Explained

_MAX_INPUT_BYTES = 16 * 1024**2


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


@routes.command()
@click.argument("event", metavar="EVENT|FILE|-")
@click.option("--config", "config_file", metavar="FILE", help="TOML configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each event.")
def test(event: str, config_file: str | None, as_json: bool) -> None:
    """Print which sinks each event reaches and why; nothing is sent.

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
    from ingestd.config import load
    from ingestd.processing.routes import compile as compile_routes

    settings = load(config_file, {})
    patterns = {name: sink.when for name, sink in settings.sinks.items()}
    compiled = compile_routes(patterns or {"ingest_api": {}})
    events = _split(_text_of(event))
    if not patterns and not as_json:
        click.echo("no [sinks] are configured: every event goes to ingest_api")
    unmatched = 0
    for number, one in enumerate(events, 1):
        explained = compiled.explain(one)
        unmatched += not any(sink.matches for sink in explained)
        click.echo(_as_json(number, explained) if as_json else _as_text(number, explained))
    raise SystemExit(3 if unmatched else 0)


def _text_of(event: str) -> bytes:
    """Raises UserError for a file that cannot be read or is too long."""
    from ingestd.core.errors import UserError

    if event.lstrip()[:1] in ("{", "["):
        return event.encode(errors="surrogateescape")
    name = event.removeprefix("@")
    try:
        if event == "-":
            text = sys.stdin.buffer.read(_MAX_INPUT_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                text = file.read(_MAX_INPUT_BYTES + 1)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UserError(f"{name[:200]!r} is neither an event in JSON nor a file to read: {why}") from None
    if len(text) > _MAX_INPUT_BYTES:
        raise UserError(f"{name!r} is longer than {_MAX_INPUT_BYTES} bytes: test with a part of it")
    return text


def _split(text: bytes) -> list[bytes]:
    """The events: one JSON object, an array of them, or one on each line. Raises UserError."""
    import msgspec

    from ingestd.core.errors import UserError

    try:
        whole = bytes(msgspec.json.decode(text, type=msgspec.Raw)).strip()
        events = msgspec.json.decode(whole, type=list[msgspec.Raw]) if whole[:1] == b"[" else [whole]
    except (ValueError, RecursionError):
        events = text.splitlines()
    numbered = [(number, bytes(event).strip()) for number, event in enumerate(events, 1)]
    numbered = [(number, event) for number, event in numbered if event]
    if not numbered:
        raise UserError("there is no event: give a JSON object, or one on each line")
    for number, event in numbered:
        try:
            msgspec.json.decode(event, type=dict[str, msgspec.Raw])
        except (ValueError, RecursionError) as error:
            raise UserError(f"event {number} is not a JSON object: {error}") from None
    return [event for _, event in numbered]


def _as_json(number: int, explained: "list[Explained]") -> str:
    reached = [one.sink for one in explained if one.matches]
    return json.dumps({"event": number, "reaches": reached, "sinks": [one._asdict() for one in explained]})


def _as_text(number: int, explained: "list[Explained]") -> str:
    reached = ", ".join(one.sink for one in explained if one.matches)
    width = max(len(one.sink) for one in explained)
    rows = [f"event {number} reaches: {reached}" if reached else f"event {number} reaches no sink"]
    for one in sorted(explained, key=lambda one: not one.matches):
        answer = click.style("yes", fg="green") if one.matches else click.style("no ", fg="yellow")
        rows.append(f"  {answer}  {one.sink:<{width}}  {one.why}")
    return "\n".join(rows)
