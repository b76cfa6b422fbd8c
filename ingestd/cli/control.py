"""What the commands for single resources do once parsed. The work is in ``app/control/resources.py``."""

import json
from collections.abc import Sequence
from typing import Any

import click

from ingestd.app.control import resources
from ingestd.app.control.session import Control
from ingestd.cli.control_options import run_session
from ingestd.cli.tables import (
    print_list,
    print_one,
    say_done,
    showing_progress,
)
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.resource import RemoteResource
from ingestd.core.errors import UserError
from ingestd.core.text import printable

Options = dict[str, Any]


def list_all(kind_name: str, options: Options) -> None:
    kind = KINDS[kind_name]
    there = run_session(lambda control: kind.read(control.context), **options)
    print_list(there, kind_name, as_json=options["as_json"])


def show(kind_name: str, name: str, options: Options) -> None:
    kind = KINDS[kind_name]
    found = run_session(lambda control: resources.find(control.context, kind, name), **options)
    print_one(found, as_json=options["as_json"])


def create(kind_name: str, name: str, file: str | None, assignments: Sequence[str], options: Options) -> None:
    kind = KINDS[kind_name]
    wanted = resources.parse(
        kind, name, resources.assemble(assignments, resources.read_table(file, kind, name))
    )

    async def work(control: Control) -> RemoteResource:
        with showing_progress(quiet=options["as_json"]) as tell:
            tell(f"{kind_name} {name}")
            return await resources.create(control, kind, wanted)

    say_done("created", run_session(work, **options), as_json=options["as_json"])


def update(kind_name: str, name: str, file: str | None, assignments: Sequence[str], options: Options) -> None:
    kind = KINDS[kind_name]
    if not file and not assignments:
        raise click.UsageError("Nothing to change. Give --set FIELD=VALUE or -f FILE.")
    table = resources.read_table(file, kind, name)

    async def work(control: Control) -> RemoteResource:
        found = await resources.find(control.context, kind, name)
        wanted = resources.change(kind, found, table, assignments)
        with showing_progress(quiet=options["as_json"]) as tell:
            tell(f"{kind_name} {name}")
            return await resources.update(control, kind, found, wanted)

    say_done("updated", run_session(work, **options), as_json=options["as_json"])


def delete(kind_name: str, name: str, file: str | None, *, yes: bool, options: Options) -> None:
    """A person is asked between two sessions, and then it is the same id that goes, whatever its name is."""
    kind = KINDS[kind_name]
    if file and resources.parse(kind, name, resources.read_table(file, kind, name)).protected:
        raise UserError(f"{kind_name} {name} is protected in {file}: it is not deleted")

    async def look(control: Control) -> RemoteResource:
        found = await resources.find(control.context, kind, name)
        resources.check_unprotected(control, found)
        return found

    async def work(control: Control) -> RemoteResource:
        found = await resources.find(control.context, kind, its_id)
        await resources.delete(control, kind, found)
        return found

    its_id = name
    if not yes:
        found = run_session(look, **options)
        its_id = found.id
        click.confirm(f"Delete {kind_name} {printable(found.key)} ({found.id})?", abort=True, err=True)
    found = run_session(work, **options)
    if options["as_json"]:
        click.echo(json.dumps({"done": "deleted", "kind": kind_name, "name": found.key, "id": found.id}))
    else:
        click.echo(f"{kind_name} {printable(found.key)} deleted, id {found.id}")


def verify(name: str, options: Options) -> None:
    async def work(control: Control) -> RemoteResource:
        with showing_progress(quiet=options["as_json"]) as tell:
            tell(f"target {name}")
            return await resources.verify(control, name)

    say_done("verified", run_session(work, **options), as_json=options["as_json"])


def health(name: str, options: Options) -> None:
    found = run_session(lambda control: resources.check_health(control, name), **options)
    if options["as_json"]:
        click.echo(json.dumps(found))
    else:
        for field, value in found.items():
            click.echo(
                f"{printable(field):16}{printable(value if isinstance(value, str) else json.dumps(value))}"
            )
    if found.get("status") != "HEALTHY":
        raise SystemExit(resources.NOT_FINISHED_CODE)


def sync(name: str, url: str | None, secret: str | None, file: str | None, options: Options) -> None:
    webhook = resources.find_webhook(name, url, secret, file)
    taken = run_session(lambda control: resources.tell_gateway(control, name, webhook), **options)
    if options["as_json"]:
        click.echo(json.dumps({"synced": taken, "host": webhook.host}))
    else:
        said = "was told" if taken else "did not take it: see the audit file"
        click.echo(f"{printable(webhook.host)} {said}", err=not taken)
    if not taken:
        raise SystemExit(resources.NOT_FINISHED_CODE)
