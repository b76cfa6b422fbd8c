"""``ingestd targets|destinations|subscriptions|integrations|triggers``: one resource by hand.

Parses; the work is in ``control.py``.
"""

from typing import Any

import click

from ingestd.cli.control_options import control_options, wait_option
from ingestd.cli.options import F

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
        from ingestd.cli import control

        control.list_all(kind, options)

    @group.command()
    @_NAME
    @control_options
    def show(name: str, **options: Any) -> None:
        """Show one, by its name or id."""
        from ingestd.cli import control

        control.show(kind, name, options)

    @group.command()
    @_fields
    def create(name: str, file: str | None, assignments: tuple[str, ...], **options: Any) -> None:
        """Create one, and bring it to its end state. One that is there already with the same fields is
        taken up where it stands."""
        from ingestd.cli import control

        control.create(kind, name, file, assignments, options)

    @group.command()
    @_fields
    def update(name: str, file: str | None, assignments: tuple[str, ...], **options: Any) -> None:
        """Change fields of one; what is not named stays. Secrets that it has must be named again."""
        from ingestd.cli import control

        control.update(kind, name, file, assignments, options)

    @group.command()
    @_NAME
    @_FILE
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @control_options
    def delete(name: str, file: str | None, yes: bool, **options: Any) -> None:
        """Delete one. Asks first; what is declared as protected refuses."""
        from ingestd.cli import control

        control.delete(kind, name, file, yes=yes, options=options)

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
triggers = _make_group(
    "trigger", "triggers", "Process automation triggers of the platform", "orders -f control.toml"
)


@targets.command()
@_NAME
@wait_option
@control_options
def verify(name: str, **options: Any) -> None:
    """Wait until a target is verified. Exit code 3 if it is not in time, or failed."""
    from ingestd.cli import control

    control.verify(name, options)


@targets.command()
@_NAME
@control_options
def health(name: str, **options: Any) -> None:
    """Have the API look at a target's endpoint. Exit code 3 if that is not healthy."""
    from ingestd.cli import control

    control.health(name, options)


@targets.command()
@_NAME
@click.option("--url", metavar="URL", help="The gateway's webhook [that of --file].")
@click.option("--secret", metavar="REFERENCE", help="Its signing secret (whsec_…), as env:NAME or file:PATH.")
@_FILE
@control_options
def sync(name: str, url: str | None, secret: str | None, file: str | None, **options: Any) -> None:
    """Tell an external gateway that a target was changed: signed, and repeated where it does not answer.
    Exit code 3 if it never took it."""
    from ingestd.cli import control

    control.sync(name, url, secret, file, options)
