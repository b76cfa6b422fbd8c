"""How resources of the control plane look: tables for people, JSON for machines, progress on a terminal."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import click

from ingestd.control.engine.resource import RemoteResource

_UNSETTLED = " (not finished)"


def as_dict(found: RemoteResource) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "name": found.key,
        "id": found.id,
        "state": found.state or None,
        "settled": found.settled,
        "version": found.version,
        "fields": dict(found.fields),
    }


def print_list(there: Sequence[RemoteResource], kind: str, *, as_json: bool) -> None:
    ordered = sorted(there, key=lambda found: (found.key, found.id))
    if as_json:
        click.echo(json.dumps({f"{kind}s": [as_dict(found) for found in ordered]}))
    elif not ordered:
        click.echo(f"no {kind}s")
    else:
        rows = [(found.key, state_of(found), found.id) for found in ordered]
        print_table(("name", "state", "id"), rows)


def print_one(found: RemoteResource, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(as_dict(found)))
        return
    for name, value in (("name", found.key), ("id", found.id), ("state", state_of(found))):
        click.echo(f"{name:16}{printable(value)}")
    for name, value in sorted(found.fields.items()):
        if name != "name" and value not in (None, "", [], {}):
            click.echo(f"{name:16}{printable(value if isinstance(value, str) else json.dumps(value))}")


def say_done(verb: str, found: RemoteResource, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"done": verb, **as_dict(found)}))
    else:
        click.echo(f"{found.kind} {printable(found.key)} {verb}: {state_of(found)}, id {found.id}")


def state_of(found: RemoteResource) -> str:
    return (found.state or "there") + ("" if found.settled else _UNSETTLED)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(printable(cell) for cell in row))
    width = None if sys.stdout.isatty() else 10_000  # for a pipe: one resource, one line
    Console(highlight=False, markup=False, width=width).print(table)


def printable(text: str) -> str:
    """A name that somebody else gave must not drive the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ApplyProgress(Protocol):
    def __call__(self, text: str, /) -> None: ...


@contextmanager
def showing_progress(*, quiet: bool) -> Iterator[ApplyProgress]:
    """Where the work is, on a terminal; nothing is said elsewhere, for the end says it all."""
    if quiet or not sys.stderr.isatty():
        yield _say_nothing
        return
    from rich.console import Console

    with Console(stderr=True).status("…") as status:
        yield lambda text: status.update(printable(text).replace("[", "\\["))


def _say_nothing(text: str) -> None:
    del text


def parse_variables(given: Sequence[str]) -> Mapping[str, str]:
    """``NAME=VALUE`` words. Raises UsageError."""
    found = dict[str, str]()
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.UsageError(f"--var {name[:80]}: write NAME=VALUE")
        found[name] = value
    return found
