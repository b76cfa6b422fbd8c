"""``ingestd where``: where one event is, and what became of it."""

import json
from typing import Any

import click

from ingestd.cli.options import state_and_config, token_option


@click.command(short_help="Tell where an event is, and what became of it.")
@click.argument("key")
@click.option("--url", default="http://127.0.0.1:9464", metavar="URL", help="Admin address of the service.")
@token_option
@state_and_config
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def where(
    ctx: click.Context,
    key: str,
    url: str,
    token_file: str | None,
    state_dir: str | None,
    config_file: str | None,
    as_json: bool,
) -> None:
    """Tell where an event is: accepted when and from whom, in which request, what each sink answered.

    KEY is the event's key, its parts with commas between them (of the schema interaction these are
    interactionId,eventType,eventTime); or the event itself, as JSON; or the id of a request. Exit code 3:
    nothing is known of the event. It asks a running service; with --state-dir, --config or --sandbox it reads
    the files, also those of a replay.

    \b
    Examples:
      ingestd where int-001,routing.interaction.answer,2026-01-01T10:00:00Z
      ingestd where 0198c1f2-7b1e-7cc0-8000-2b1f6a1d0c4e --json
      ingestd where O-1,2 --state-dir /var/lib/ingestd
    """
    if config_file and not state_dir and (settings := _on_nats(config_file)):
        from ingestd.app.cluster.server_at_hand import at_hand
        from ingestd.app.cluster.where import where as where_on_nats

        with at_hand(settings):
            found = where_on_nats(settings, key)
    elif state_dir or config_file:
        from ingestd.app.state_place import place
        from ingestd.app.where_in_state import where_in_state

        found = where_in_state(key, place(state_dir, config_file, sandbox=False), config_file)
    else:
        from ingestd.app.admin_client import AdminClient

        with AdminClient(url, token_file=token_file) as client:
            found = client.post("/v1/where", key=key)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print(found)
    if not (found["steps"] or found["letters"] or found["waiting"]) and found["state"] == "new":
        ctx.exit(3)


def _on_nats(config_file: str) -> Any:
    """The settings where the spool is on NATS; else None."""
    from ingestd.config import load

    settings = load(config_file, {})
    return settings if settings.spool.kind == "nats" else None


def _attempts(step: dict[str, Any]) -> str:
    from ingestd.core.units import counted

    return counted(step["attempts"], "attempt") if step.get("attempts") else ""


def _chunk(step: dict[str, Any]) -> str:
    """Where it is in a spool on NATS."""
    if "partition" not in step:
        return ""
    edge = f"{step['edge']} number {step['number']}, " if step.get("edge") else ""
    return f"{edge}partition {step['partition']}, sequence {step.get('sequence')}"


def _print(found: dict[str, Any]) -> None:
    from ingestd.cli.tables import print_table
    from ingestd.core.units import rfc3339

    click.echo(found["words"])
    rows = [
        (
            rfc3339(step["at"]),
            step["what"],
            step["sink"] or "-",
            step["batch"] or "-",
            str(step.get("producer") or step.get("why") or _attempts(step) or _chunk(step)),
        )
        for step in found["steps"]
    ]
    rows += [("", one["place"], one["sink"], "-", one["why"] or one["circuit"]) for one in found["waiting"]]
    for one in found["letters"]:
        rows.append((one["last_failed"] or "", f"letter {one['id']}", one["sink"] or "-", "-", one["detail"]))
    for one in found["attempts"]:
        more = " ".join(str(one[name]) for name in ("attempt", "status", "error") if name in one)
        row = one["time"][:19] + "Z", one["event"], one.get("sink", "-"), one.get("request_id", "-"), more
        rows.append(row)
    if rows:
        print_table(("when", "what", "sink", "request", "more"), rows)
