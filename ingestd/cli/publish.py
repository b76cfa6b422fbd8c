"""``ingestd publish``: parse, send one event, show what became of it. The work is in ``app/publish/``."""

import json
import re
from typing import TYPE_CHECKING, Any

import click

from ingestd.cli.notice import notice
from ingestd.cli.options import api_options, overrides
from ingestd.core import units
from ingestd.core.errors import UserError

if TYPE_CHECKING:
    from ingestd.app.publish.publication import PublishedEvent

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
@click.option("--type", "type_", metavar="TYPE", help="Type of the CloudEvent, such as order.created.")
@click.option("--source", metavar="URI", help="Source of the CloudEvent, such as com.example.ordering.")
@click.option("--data", metavar="JSON|-|@FILE", help="Its data; a text has to be quoted: '\"text\"'.")
@click.option("--subject", metavar="TEXT", help="Subject of the CloudEvent.")
@click.option("--id", "id_", metavar="TEXT", help="Id of the CloudEvent [a new UUID].")
@click.option("--time", metavar="TIME", help="Time of the CloudEvent, as 2026-01-01T10:00:00Z [now].")
@click.option(
    "--wait", metavar="[=TIME]", help=f"Ask until it is delivered or failed, for {DEFAULT_WAIT} or this long."
)
@click.option("--sink", "sink_name", metavar="NAME", help="A sink of the configuration instead.")
@api_options
@click.option("--sandbox", is_flag=True, help="Use a running `ingestd sandbox` (port 8700, or --api URL).")
@click.option("--config", "config_file", metavar="FILE", help="TOML configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
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
    made of --type, --source, --data and so on. Where the API does not answer, or asks to wait, the same
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
    from ingestd.app.login import login_by_hand
    from ingestd.app.publish.event import Words, make_event
    from ingestd.app.publish.publish import publish as send
    from ingestd.cli.input import read_input
    from ingestd.config import load
    from ingestd.core.clock import SystemClock, system_rng

    data = given.pop("data")
    type_, source, subject, id_, time = (
        given.pop(name) for name in ("type_", "source", "subject", "id_", "time")
    )
    words = Words(type_, source, None, subject, id_, time)
    if event is not None and _TIME.fullmatch(event):
        raise click.UsageError(f"{event} is not an event: write --wait={event}")
    if event is not None and (any(words) or data is not None):
        raise click.UsageError(
            "EVENT is a complete CloudEvent; do not combine it with --type, --source or --data."
        )
    if event is None and not (words.type and words.source):
        raise click.UsageError("give EVENT, or --type and --source")
    if sandbox and given["region"]:
        raise click.UsageError("Use either --sandbox or --region, not both.")
    try:
        wait_s = None if wait is None else units.seconds(wait)
    except ValueError as error:
        raise UserError(f"--wait: {error}") from None
    own = {name: value for name, value in given.items() if not (sandbox and name in ("api", "token_url"))}
    settings = load(config_file, overrides(**own))
    if event is None:
        words = words._replace(data=None if data is None else read_input(data))
        words = words.completed(SystemClock(), system_rng())
        again = f"the same words with --id {words.id} --time {words.time} have the same key"
    else:
        again = "the same event again has the same key"
    published = send(
        make_event(words) if event is None else read_input(event),
        settings,
        sink_name=sink_name,
        find_login=lambda: login_by_hand(settings.api, given, sandbox=sandbox, warn=notice),
        sandbox=sandbox,
        wait_s=wait_s,
        report=notice,
        on_accepted=lambda published: None if as_json else click.echo(accepted_line(published)),
    )
    _show(published, again, as_json=as_json)
    raise SystemExit(published.exit_code)


def accepted_line(published: "PublishedEvent") -> str:
    tries = f" at attempt {published.attempts}" if published.attempts > 1 else ""
    key = f", key {published.key}" if published.key else ""
    status = "409: it has it already" if published.status == 409 else str(published.status)
    return f"accepted   {published.id or '(the API gave no id)'}  ({status}{tries}{key})"


def _show(published: "PublishedEvent", again: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(published.as_dict()))
    elif published.interrupted:
        notice(f"interrupted: {_known(published, again)}")
    elif published.outcome == "delivered":
        click.echo(f"delivered  {published.id}  (after {units.human_seconds(published.seconds)})")
    elif published.outcome != "accepted":
        perhaps = published.maybe_accepted and published.outcome in ("unavailable", "refused")
        more = f"; it may have been taken: {again}" if perhaps else ""
        notice(f"{published.outcome.replace('_', ' ')}: {published.detail}{more}")


def _known(published: "PublishedEvent", again: str) -> str:
    if published.outcome == "unsent":
        return "nothing was sent"
    if published.outcome == "accepted":
        return f"accepted as {published.id or 'an event without an id'}; what became of it is not known"
    return f"it is not known whether the API has taken it; {again}"
