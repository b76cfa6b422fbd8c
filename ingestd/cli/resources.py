"""``ingestd targets|destinations|subscriptions|integrations|triggers``: one resource by hand.

Parses and prints; the work is in ``app/control/resources.py``.
"""

import json
from typing import IO, TYPE_CHECKING, Any

import click

from ingestd.cli.control_options import control_options, run_session, wait_option
from ingestd.cli.options import F
from ingestd.cli.tables import (
    print_done,
    print_fields,
    print_list,
    print_one,
    print_trigger_test,
    showing_progress,
)
from ingestd.core.errors import UserError
from ingestd.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ingestd.app.control.session import Control
    from ingestd.control.engine.resource import RemoteResource

_SET = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="JSON or text; dotted names are tables in tables. Secrets as env:NAME or file:PATH. Repeatable.",
)
_FILE = click.option(
    "-f", "--file", "file", metavar="FILE", help="Fields from a TOML, YAML or JSON file that declares NAME."
)
_NAME = click.argument("name", metavar="NAME")
MAX_EVENT_BYTES = 4 * 2**20


def _fields(command: F) -> F:
    """NAME, and where its fields come from."""
    return _NAME(_FILE(_SET(wait_option(control_options(command)))))


def _make_group(kind: str, plural: str, what: str, example: str) -> click.Group:
    """The five commands that every kind has."""

    @click.group(plural, short_help=f"{what}: list, show, create, update, delete.")
    def group() -> None: ...

    group.help = (
        f"{what}, one at a time; many of them are better kept in a file: see `ingestd plan --help`.\n\n"
        f"\b\nExamples:\n  ingestd {plural} list --region us-east-1\n  ingestd {plural} create {example}\n"
        f"  ingestd {plural} delete NAME --yes"
    )

    @group.command("list")
    @control_options
    def list_all(**options: Any) -> None:
        """List all there are."""
        from ingestd.control.engine.kinds import KINDS

        there = run_session(lambda control: KINDS[kind].read(control.context), **options)
        print_list(there, kind, as_json=options["as_json"])

    @group.command()
    @_NAME
    @control_options
    def show(name: str, **options: Any) -> None:
        """Show one, by its name or id."""
        from ingestd.app.control import resources as work
        from ingestd.control.engine.kinds import KINDS

        found = run_session(lambda control: work.find(control.context, KINDS[kind], name), **options)
        print_one(found, as_json=options["as_json"])

    @group.command()
    @_fields
    def create(name: str, file: str | None, assignments: tuple[str, ...], **options: Any) -> None:
        """Create one, and bring it to its end state. If it exists already with the same fields, continue from
        its present state."""
        from ingestd.app.control import resources as work
        from ingestd.control.engine.kinds import KINDS

        table = work.read_table(file, KINDS[kind], name)
        wanted = work.parse(KINDS[kind], name, work.assemble(assignments, table))
        _run(f"{kind} {name}", "created", lambda control: work.create(control, KINDS[kind], wanted), options)

    @group.command()
    @_fields
    def update(name: str, file: str | None, assignments: tuple[str, ...], **options: Any) -> None:
        """Change fields of one; the others stay. Its secrets must be given again."""
        from ingestd.app.control import resources as work
        from ingestd.control.engine.kinds import KINDS

        if not file and not assignments:
            raise click.UsageError("Nothing to change. Give --set FIELD=VALUE or -f FILE.")
        its_kind = KINDS[kind]
        table = work.read_table(file, its_kind, name)

        async def change(control: "Control") -> "RemoteResource":
            found = await work.find(control.context, its_kind, name)
            wanted = work.change(its_kind, found, table, assignments)
            return await work.update(control, its_kind, found, wanted)

        _run(f"{kind} {name}", "updated", change, options)

    @group.command()
    @_NAME
    @_FILE
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @control_options
    def delete(name: str, file: str | None, yes: bool, **options: Any) -> None:
        """Delete one. Asks first; protected resources are not deleted."""
        from ingestd.app.control import resources as work
        from ingestd.control.engine.kinds import KINDS

        its_kind = KINDS[kind]
        if file and work.parse(its_kind, name, work.read_table(file, its_kind, name)).protected:
            raise UserError(f"{kind} {name} is protected in {file}: it is not deleted")
        if not yes:  # between two sessions; then it is the same id that goes, whatever its name is
            found = run_session(lambda control: work.find_unprotected(control, its_kind, name), **options)
            name = found.id
            click.confirm(f"Delete {kind} {printable(found.key)} ({found.id})?", abort=True, err=True)
        found = run_session(lambda control: work.delete(control, its_kind, name), **options)
        if options["as_json"]:
            click.echo(json.dumps({"done": "deleted", "kind": kind, "name": found.key, "id": found.id}))
        else:
            click.echo(f"{kind} {printable(found.key)} deleted, id {found.id}")

    return group


targets = _make_group(
    "target",
    "targets",
    "HTTPS endpoints that get events",
    "orders --set endpoint_url=https://example.com/events --set event_types='[\"order.created\"]'",
)
destinations = _make_group(
    "destination",
    "destinations",
    "Partner event buses that get events",
    "orders -f control.toml",
)
subscriptions = _make_group(
    "subscription", "subscriptions", "Subscriptions to topics", "orders -f control.toml"
)
integrations = _make_group(
    "integration", "integrations", "Amazon EventBridge integrations of the platform", "orders -f control.toml"
)
webhooks = _make_group(
    "webhook",
    "webhooks",
    "Webhooks of the platform that take events",
    "orders --set properties='{\"invocationRatePerMinute\": 200}'",
)
triggers = _make_group(
    "trigger", "triggers", "Process automation triggers of the platform", "orders -f control.toml"
)

scheduled_triggers = _make_group(
    "scheduled_trigger",
    "scheduled-triggers",
    "Triggers of the platform that fire by a clock",
    "morning --set workflow_id=ID --set hours=8 --set timezone=Europe/Berlin",
)
presence_sources = _make_group(
    "presence_source",
    "presence-sources",
    "Sources of presence events",
    "old-pbx --set description='The old exchange'",
)
journey_schemas = _make_group(
    "journey_schema", "journey-schemas", "Schemas of external journey events", "visits -f control.toml"
)
journey_configurations = _make_group(
    "journey_configuration",
    "journey-configurations",
    "Configurations that take external journey events",
    "visits -f control.toml",
)


@targets.command()
@_NAME
@wait_option
@control_options
def verify(name: str, **options: Any) -> None:
    """Wait until a target is verified. Exit code 3 if it is not in time, or failed."""
    from ingestd.app.control import resources as work

    _run(f"target {name}", "verified", lambda control: work.verify(control, name), options)


@targets.command()
@_NAME
@control_options
def health(name: str, **options: Any) -> None:
    """Ask the API to check a target's endpoint. Exit code 3 if it is not healthy."""
    from ingestd.app.control import resources as work

    found = run_session(lambda control: work.check_health(control, name), **options)
    if options["as_json"]:
        click.echo(json.dumps(found))
    else:
        print_fields(found)
    if found.get("status") != "HEALTHY":
        raise SystemExit(work.NOT_FINISHED_CODE)


@targets.command()
@_NAME
@click.option("--url", metavar="URL", help="The gateway's webhook [that of --file].")
@click.option("--secret", metavar="REFERENCE", help="Its signing secret (whsec_…), as env:NAME or file:PATH.")
@_FILE
@control_options
def sync(name: str, url: str | None, secret: str | None, file: str | None, **options: Any) -> None:
    """Notify an external gateway that a target was changed. The request is signed, and repeated if there is
    no answer. Exit code 3 if the gateway did not accept it."""
    from ingestd.app.control import resources as work

    webhook = work.find_webhook(name, url, secret, file)
    accepted = run_session(lambda control: work.sync_webhook(control, name, webhook), **options)
    if options["as_json"]:
        click.echo(json.dumps({"synced": accepted, "host": webhook.host}))
    else:
        result = "was told" if accepted else "did not take it: see the audit file"
        click.echo(f"{printable(webhook.host)} {result}", err=not accepted)
    if not accepted:
        raise SystemExit(work.NOT_FINISHED_CODE)


@triggers.command(short_help="Tell whether a trigger takes an event, and why not.")
@_NAME
@click.argument("event", metavar="EVENT", type=click.File("rb"))
@_FILE
@control_options
def test(name: str, event: IO[bytes], file: str | None, **options: Any) -> None:
    """Tell whether a trigger takes an event, and which of its conditions does not. EVENT is a file, or - for
    standard input. With -f, the trigger is that of the file, and no API is asked.

    \b
    Exit codes: 0 it does; 3 it does not, or that cannot be told here; 2 usage or configuration.
    """
    from ingestd.app.control import resources as work
    from ingestd.control.engine.kinds import KINDS

    kind, body = KINDS["trigger"], event.read(MAX_EVENT_BYTES)
    if file:
        fields = work.parse(kind, name, work.read_table(file, kind, name)).fields
    else:
        fields = run_session(lambda control: work.find(control.context, kind, name), **options).fields
    made = work.check_trigger(name, fields, body)
    print_trigger_test(made, as_json=options["as_json"])
    if not made.matches:
        raise SystemExit(work.NOT_FINISHED_CODE)


def _run(
    what: str,
    verb: str,
    work: "Callable[[Control], Awaitable[RemoteResource]]",
    options: dict[str, Any],
) -> None:
    """With progress, then how the resource stands."""

    async def session(control: "Control") -> "RemoteResource":
        with showing_progress(quiet=options["as_json"]) as report:
            report(what)
            return await work(control)

    print_done(verb, run_session(session, **options), as_json=options["as_json"])
