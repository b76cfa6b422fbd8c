"""``ingestd publish``: parse, send one event, show its fate. The work is in ``publishing.py``."""

import re
from typing import Any

import click

from ingestd.cli.options import api_options

DEFAULT_WAIT = "60s"
_TIME = re.compile(r"\d+(\.\d+)?(ms|s|m|h)?")


class _OptionalWait(click.Command):
    """``--wait`` may have a value, but only behind ``=``: the next word is the event."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        given = [f"--wait={DEFAULT_WAIT}" if word == "--wait" else word for word in args[:end]]
        return super().parse_args(ctx, given + args[end:])


@click.command(cls=_OptionalWait, short_help="Send one CloudEvent by hand, and show what becomes of it.")
@click.argument("event", required=False, metavar="[EVENT|-|@FILE]")
@click.option("--type", "type_", metavar="TYPE", help="Of the CloudEvent, such as order.created.")
@click.option("--source", metavar="URI", help="Of the CloudEvent, such as com.example.ordering.")
@click.option("--data", metavar="JSON|-|@FILE", help="Its data; a text has to be quoted: '\"text\"'.")
@click.option("--subject", metavar="TEXT", help="Of the CloudEvent.")
@click.option("--id", "id_", metavar="TEXT", help="Of the CloudEvent [a new UUID].")
@click.option("--time", metavar="TIME", help="Of the CloudEvent, as 2026-01-01T10:00:00Z [now].")
@click.option(
    "--wait", metavar="[=TIME]", help=f"Ask until it is delivered or failed, for {DEFAULT_WAIT} or this long."
)
@click.option("--sink", "sink_name", metavar="NAME", help="A sink of the configuration instead.")
@api_options
@click.option(
    "--sandbox", is_flag=True, help="To a running `ingestd sandbox`; where, if not at its usual port: --api."
)
@click.option("--config", "config_file", metavar="FILE", help="TOML configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print the fate as JSON.")
def publish(
    event: str | None,
    wait: str | None,
    sink_name: str | None,
    sandbox: bool,
    config_file: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Send one CloudEvent to POST {api}/api/v2/eventbridge/events, and show what becomes of it.

    EVENT is a whole CloudEvent as JSON; - reads it from standard input, @FILE from a file. Without it one is
    made of --type, --source, --data and so on. Where the API does not answer, or asks for patience, the same
    bytes go out again under the same key, a few times. Nothing is stored.

    \b
    Examples:
      ingestd publish --type order.created --source com.example.ordering --data '{"orderId":"O-1"}' --wait
      ingestd publish @event.json --region us-east-1 --wait=5m --json
      echo '{"a":1}' | ingestd publish --type t --source s --data - --sandbox

    \b
    Exit codes: 0 accepted, or with --wait delivered; 2 usage, or the event is not valid; 3 refused, failed,
    or not delivered in time; 4 the API could not be reached or refused the login; 130 interrupted.
    """
    from ingestd.app.publish.event import Words
    from ingestd.cli.publishing import run_publish

    words = Words(*(given.pop(name) for name in ("type_", "source", "data", "subject", "id_", "time")))
    if event is not None and _TIME.fullmatch(event):
        raise click.UsageError(f"{event} is no event: write --wait={event}")
    if event is not None and any(words):
        raise click.UsageError("EVENT is whole: it does not go with --type, --source, --data and the like")
    if event is None and not (words.type and words.source):
        raise click.UsageError("give EVENT, or --type and --source")
    if sandbox and given["region"]:
        raise click.UsageError("--sandbox is an API of its own: leave out --region")
    code = run_publish(
        event,
        words,
        given,
        wait=wait,
        sink_name=sink_name,
        sandbox=sandbox,
        config_file=config_file,
        as_json=as_json,
    )
    raise SystemExit(code)
