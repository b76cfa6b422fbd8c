"""How results look: tables for people, JSON for machines, progress on a terminal."""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import click

from ingestd.core.letter import HEADERS
from ingestd.core.text import cut, printable, without_json
from ingestd.core.units import counted

if TYPE_CHECKING:
    from ingestd.app.control.resources import TriggerTest
    from ingestd.control.engine.resource import RemoteResource

_NO_SINK = "-"
_PAGE = 1_000
"""Rows of a table: it is laid out before it is printed."""
_LINES = "\n"
_LEAST_WIDE, _MOST_CELL, _MAX_CAUSE = 36, 24, 500
_UNITS = (("d", 86400), ("h", 3600), ("m", 60))
_UNSETTLED = " (not finished)"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():  # one thing, one line, however long
        widths = [max(map(len, column)) for column in zip(head, *shown, strict=True)]
        for row in (head, *shown):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, box=None, pad_edge=False)
    for row in shown:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


# --- dead letters ---


def print_fitting(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, wide: int, spare: Sequence[int]
) -> None:
    """A line each. On a terminal column ``wide`` takes what the others leave, and is cut; where that is too
    little the columns ``spare`` go, in this order. Columns that are empty are left out."""
    shown = [[printable(cell) for cell in row] for row in rows]
    kept = [
        at for at in range(len(head)) if at == wide or any(row[at] not in ("", _NO_SINK) for row in shown)
    ]
    widths = [max(map(len, column)) for column in zip(head, *shown, strict=True)]
    if sys.stdout.isatty():
        widths = [width if at == wide else min(width, _MOST_CELL) for at, width in enumerate(widths)]
        for gone in (-1, *spare):
            kept = [at for at in kept if at != gone]
            left = shutil.get_terminal_size().columns - sum(widths[at] + 2 for at in kept if at != wide)
            if left >= min(widths[wide], _LEAST_WIDE):
                break
        widths[wide] = max(8, min(widths[wide], left))
    for row in (head, *shown):
        click.echo("  ".join(cut(row[at], widths[at]).ljust(widths[at]) for at in kept).rstrip())


def ago(moment: str | None, now: float) -> str:
    """``2026-11-29T00:12:32Z`` -> ``5m``: how long that is away, in its largest unit."""
    if not moment:
        return ""
    seconds = abs(now - datetime.fromisoformat(moment).timestamp())
    unit, size = next((one for one in _UNITS if seconds >= one[1]), ("s", 1))
    return f"{seconds / size:.0f}{unit}"


def print_letters(letters: Iterator[Mapping[str, Any]], total: int, *, as_json: bool, now: float) -> None:
    """As they are read: there may be a million."""
    if as_json:
        click.echo(f'{{"total": {total}, "letters": [', nl=False)
        for number, letter in enumerate(letters):
            click.echo(f"{', ' if number else ''}{json.dumps(letter)}", nl=False)
        click.echo("]}")
        return
    shown = 0
    while page := [_row_of(letter, now) for letter in islice(letters, _PAGE)]:
        head = ("id", "reason", "cause", "event", "type", "from", "sink", "tries", "age", "next")
        print_fitting(head, page, wide=2, spare=(4, 7, 5, 3, 6, 9))
        shown += len(page)
    if not shown:
        click.echo("no dead letters")
    elif total > shown:
        click.echo(f"{shown} of {total}; see more with --limit, or --group for an overview")


def _row_of(letter: Mapping[str, Any], now: float) -> tuple[str, ...]:
    due = letter["next_due"]
    return (
        str(letter["id"]),
        letter["reason"],
        _cause_of(letter),
        letter["event_id"] or "",
        letter["event_type"] or "",
        letter["producer"] or "",
        letter["sink"] or _NO_SINK,
        str(letter["attempts"] or ""),
        ago(letter["last_failed"], now),
        f"in {ago(due, now)}" if due else "a person",
    )


def _cause_of(letter: Mapping[str, Any]) -> str:
    """On one line, without the headers of a broker's message: `dlq show` has them."""
    words = without_json("; ".join(filter(None, (letter["why_not_by_itself"], letter["detail"]))))
    first, _, rest = words.partition("\n")
    place = " ".join(rest.partition(f", {HEADERS}")[0].split())
    return cut("; ".join(filter(None, (first, place))), _MAX_CAUSE)


def print_purged(deleted: int, left: int, *, interrupted: bool, as_json: bool) -> None:
    if as_json:
        found = {"purged": deleted, "left": left, "interrupted": interrupted}
        click.echo(json.dumps({name: value for name, value in found.items() if value or name == "purged"}))
        return
    click.echo(f"{counted(deleted, 'letter')} deleted" + (", then interrupted" if interrupted else ""))
    if left:
        from ingestd.app.letters.retry_result import mates_left

        click.echo(mates_left(left))


def print_groups(groups: Sequence[Mapping[str, Any]], *, as_json: bool, now: float) -> None:
    if as_json:
        click.echo(json.dumps({"groups": groups}))
        return
    if not groups:
        click.echo("no dead letters")
        return
    for group in groups:
        reason = group["fingerprint"].partition(":")[0]
        sink = f", sink {group['sink']}" if group["sink"] else ""
        click.echo(f"{group['count']:,} {reason}: {printable(group['cause'])}")
        for values in group["values"]:
            listed = ", ".join(f"{printable(value)} ({count:,})" for value, count in values)
            click.echo(f"    differs in: {listed}")
        click.echo(f"    {ago(group['last_failed'], now)} ago{sink}; for example letter {group['example']}")


_TWICE = (
    "`ingestd dlq retry {0}` sends it with what is left of its request, and the API may get them twice:"
    " look there first, and if it has this one, `ingestd dlq purge {0}`"
)


def print_letter(letter: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(letter))
        return
    found = {**letter, "sink": letter["sink"] or _NO_SINK}
    payload = found.pop("payload", None) or f"(base64) {found.pop('payload_base64', '')}"
    for name, value in found.items():
        if value is not None:
            shown = str(value) if not isinstance(value, bool) else "yes" if value else "no"
            click.echo(f"{name.replace('_', ' '):18}{printable(shown, keep=_LINES)}")
    if letter["maybe_taken"] and letter["why_not_by_itself"] and not letter["next_due"]:
        click.echo(f"{'what to do':18}{_TWICE.format(letter['id'])}")
    click.echo("payload")
    click.echo(printable(payload, keep=_LINES))


# --- resources of the control plane ---


def resource_as_dict(found: "RemoteResource") -> dict[str, Any]:
    return {
        "kind": found.kind,
        "name": found.key,
        "id": found.id,
        "state": found.state or None,
        "settled": found.settled,
        "version": found.version,
        "fields": dict(found.fields),
    }


def print_list(there: "Sequence[RemoteResource]", kind: str, *, as_json: bool) -> None:
    ordered = sorted(there, key=lambda found: (found.key, found.id))
    if as_json:
        click.echo(json.dumps({f"{kind}s": [resource_as_dict(found) for found in ordered]}))
    elif not ordered:
        click.echo(f"no {kind.replace('_', ' ')}s")
    else:
        rows = [(found.key, state_of(found), found.id) for found in ordered]
        print_table(("name", "state", "id"), rows)


def print_one(found: "RemoteResource", *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(resource_as_dict(found)))
        return
    for name, value in (("name", found.key), ("id", found.id), ("state", state_of(found))):
        click.echo(f"{name:16}{printable(value)}")
    shown = {name: value for name, value in sorted(found.fields.items()) if value not in (None, "", [], {})}
    print_fields({name: value for name, value in shown.items() if name != "name"})


def print_fields(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        shown = value if isinstance(value, str) else json.dumps(value)
        click.echo(f"{printable(name):16}{printable(shown)}")


def print_trigger_test(made: "TriggerTest", *, as_json: bool) -> None:
    if as_json:
        conditions = [
            {
                "path": one.condition.path,
                "operator": one.condition.operator,
                "matches": one.matches,
                "why": one.why,
            }
            for one in made.results
        ]
        found = {"trigger": made.trigger, "matches": made.matches, "enabled": made.enabled}
        click.echo(json.dumps(found | {"other_topic": made.other_topic or None, "conditions": conditions}))
        return
    if made.other_topic:
        click.echo(printable(f"no   it is of another topic: {made.other_topic}"))
    for one in made.results:
        click.echo(printable(str(one)))
    answer = {True: "takes", False: "does not take", None: "perhaps takes"}[made.matches]
    off = "" if made.enabled else "; it is disabled"
    click.echo(f"trigger {printable(made.trigger)} {answer} this event{off}")


def print_done(verb: str, found: "RemoteResource", *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"done": verb, **resource_as_dict(found)}))
    else:
        click.echo(f"{found.kind} {printable(found.key)} {verb}: {state_of(found)}, id {found.id}")


def state_of(found: "RemoteResource") -> str:
    return (found.state or "there") + ("" if found.settled else _UNSETTLED)


class ApplyProgress(Protocol):
    def __call__(self, text: str, /) -> None: ...


@contextmanager
def showing_progress(*, quiet: bool) -> Iterator[ApplyProgress]:
    """Where the work is, on a terminal; nothing is said elsewhere, for the end says it all."""
    if quiet or not sys.stderr.isatty():
        yield _show_nothing
        return
    from rich.console import Console

    with Console(stderr=True).status("…") as status:
        yield lambda text: status.update(printable(text).replace("[", "\\["))


def _show_nothing(text: str) -> None:
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
