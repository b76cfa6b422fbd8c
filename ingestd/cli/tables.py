"""How dead letters look: tables for people, JSON for machines."""

import json
import sys
from collections.abc import Sequence

import click

from ingestd.app.letters.retry_result import MATES_LEFT
from ingestd.app.letters.shape import Group, as_dict, moment
from ingestd.core.redaction import redact
from ingestd.store.dead_letters import UNROUTED, StoredLetter
from ingestd.store.letter_changes import PurgeResult


def print_letters(letters: Sequence[StoredLetter], total: int, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"total": total, "letters": [as_dict(letter) for letter in letters]}))
        return
    if not letters:
        click.echo("no dead letters")
        return
    rows = [
        (
            str(le.id),
            le.reason,
            le.sink or UNROUTED,
            str(le.attempts),
            moment(le.last_failed) or "",
            moment(le.due) or "a person",
            redact(f"{le.obstacle}; {le.detail}" if le.obstacle else le.detail),
        )
        for le in letters
    ]
    _print_table(("id", "reason", "sink", "tries", "last failed", "waits for", "detail"), rows)
    if total > len(letters):
        click.echo(f"{len(letters)} of {total}; see more with --limit, or --group for an overview")


def print_purged(done: PurgeResult, *, as_json: bool) -> None:
    if as_json:
        told = {"purged": done.deleted, "left": done.left, "interrupted": done.interrupted}
        click.echo(json.dumps({name: value for name, value in told.items() if value or name == "purged"}))
        return
    click.echo(f"{done.deleted} letters deleted" + (", then interrupted" if done.interrupted else ""))
    if done.left:
        click.echo(MATES_LEFT.format(done.left))


def print_groups(groups: Sequence[Group], *, as_json: bool) -> None:
    names = ("fingerprint", "count", "first_failed", "last_failed", "example")
    if as_json:
        found = [
            dict(zip(names, (redact(g[0]), g[1], moment(g[2]), moment(g[3]), g[4]), strict=True))
            for g in groups
        ]
        click.echo(json.dumps({"groups": found}))
        return
    if not groups:
        click.echo("no dead letters")
        return
    rows = [(str(g[1]), moment(g[2]) or "", moment(g[3]) or "", str(g[4]), redact(g[0])) for g in groups]
    _print_table(("count", "first failed", "last failed", "example", "what"), rows)


def print_letter(letter: StoredLetter, source: str, *, as_json: bool) -> None:
    found = as_dict(letter, source)
    if as_json:
        click.echo(json.dumps(found))
        return
    found["sink"] = letter.sink or UNROUTED
    payload = found.pop("payload", None) or f"(base64) {found.pop('payload_base64', '')}"
    for name, value in found.items():
        if value is not None:
            click.echo(f"{name.replace('_', ' '):16}{_printable(str(value))}")
    click.echo("payload")
    click.echo(_printable(payload))


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_printable(cell) for cell in row))
    width = None if _is_terminal() else 10_000  # for a pipe: one letter, one line
    Console(highlight=False, markup=False, width=width).print(table)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _printable(text: str) -> str:
    """A payload must not drive the terminal: control characters are shown, not sent."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)
