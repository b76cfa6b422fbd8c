"""``ingestd dlq``: the dead-letter store for people. Parses and prints; the work is in ``app/letters/``."""

import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from ingestd.cli.letter_options import FILTERS, letter_filters, letter_state, letters_directory
from ingestd.cli.notice import notice
from ingestd.cli.options import api_options, common_options, overrides, spool_options
from ingestd.core.errors import UserError

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Look into the dead letters, correct them, send them again.")
def dlq() -> None:
    """Dead letters: events that could not be delivered; they wait until a person or a retry settles them.

    \b
    Examples:
      ingestd dlq list --group                          what went wrong, and how often
      ingestd dlq show 17                               one event, and why
      ingestd dlq retry 17 --edit corrected.json        send a corrected payload
      ingestd dlq retry --reason invalid --edit-with '.version = 2' --dry-run
      ingestd dlq retry --reason gave_up --api https://api.example.com
      ingestd dlq retry --sink crm --config ingestd.toml  what one sink of several gave up
      ingestd dlq export --reason invalid > bad.ndjson  NDJSON that replay reads back
      ingestd dlq park --text "no such queue"           not again by itself
      ingestd dlq purge --older 30d --yes
    """


@dlq.command("list")
@letter_filters
@letter_state
@click.option("--group", is_flag=True, help="Count like failures together.")
@click.option(
    "--limit", type=click.IntRange(1), default=50, show_default=True, help="The most that are listed."
)
@spool_options
@_as_json
def list_letters(
    group: bool, limit: int, as_json: bool, state_dir: str | None, settings: Any, **which: Any
) -> None:
    """List dead letters, or groups of like failures."""
    from ingestd.app.letters import letters
    from ingestd.cli import tables

    where = letters.make_filter(**which)
    with letters_directory(state_dir, settings, where) as state_dir:
        if group:
            groups = letters.groups(state_dir, where, now=time.time())
            tables.print_groups(groups, as_json=as_json, now=time.time())
            return
        with letters.find(state_dir, where, limit=limit, now=time.time()) as (found, total):
            tables.print_letters(found, total, as_json=as_json, now=time.time())


@dlq.command()
@click.argument("number", type=int, metavar="ID")
@spool_options
@_as_json
@click.option("--payload", "payload_only", is_flag=True, help="The payload's bytes alone, to edit.")
def show(number: int, state_dir: str | None, settings: Any, as_json: bool, payload_only: bool) -> None:
    """Show one letter: payload, reason, answer, attempts. Exit code 3 if its payload is damaged on disk."""
    from ingestd.app.letters import letters
    from ingestd.cli import tables

    with letters_directory(state_dir, settings) as state_dir:
        if payload_only:
            payload, intact = letters.payload(state_dir, number)
            sys.stdout.buffer.write(payload)
        else:
            letter = letters.get(state_dir, number)
            intact = letter["intact"]
            tables.print_letter(letter, as_json=as_json)
    if not intact:
        notice(f"the payload of letter {number} is damaged on disk: it is not what was stored")
        raise SystemExit(3)


@dlq.command(short_help="Check letters again and send them.")
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@letter_filters
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@click.option(
    "--edit", "edit_file", metavar="FILE", help="Send this payload instead (one ID; - for standard input)."
)
@click.option("--edit-with", "expression", metavar="EXPR", help="Correct each with an expression of jq.")
@click.option("--dry-run", is_flag=True, help="Revalidate, and say what would be sent.")
@click.option("--sandbox", is_flag=True, help="Send to a sandbox, started for it, that keeps nothing.")
@api_options
@common_options
@_as_json
def retry(
    ids: tuple[int, ...],
    everything: bool,
    edit_file: str | None,
    expression: str | None,
    dry_run: bool,
    sandbox: bool,
    as_json: bool,
    config_file: str | None,
    **given: Any,
) -> None:
    """Revalidate letters and send them again: by ID, by filter, or --all.

    Each goes to its sink, and an event that was rejected to all sinks whose pattern it matches: where there
    are [sinks], give their --config. Without --config or --api, each letter goes to the
    API of the run that created it. A letter whose request
    may have been taken goes out together with the others of its request, under the same key.

    Beside a process that uses the same state directory the letters are marked, and that process sends
    them within seconds.
    """
    from ingestd.app.letters import letters
    from ingestd.app.letters import retry as letter_retry

    which = {name: given.pop(name) for name in FILTERS}
    chosen = any(which.values())
    if bool(ids) + chosen + everything != 1:
        raise click.UsageError("No letters are chosen. Give IDs, filters, or --all.")
    if edit_file and len(ids) != 1:
        raise click.UsageError("--edit goes with one ID")
    if edit_file and expression:
        raise click.UsageError("Use either --edit or --edit-with.")
    edit = None
    if expression:
        from ingestd.app.letters.correction import open_edit

        edit = click.get_current_context().with_resource(open_edit(expression))
    where = letters.make_filter(ids=ids, **which)
    corrected = _read_payload(edit_file) if edit_file else None
    if settings := _on_nats(config_file):
        from ingestd.app.cluster import letters_by_command as cluster

        if sandbox:
            raise click.UsageError("--sandbox does not go with a spool on NATS: its workers send the letters")
        again = cluster.retry(settings, where, payload=corrected, edit=edit, dry_run=dry_run)
        click.echo(json.dumps(again.as_dict()) if as_json else again.words())
        raise SystemExit(again.exit_code)
    result = letter_retry.retry(
        where,
        overrides(**given),
        config_file=config_file,
        payload=corrected,
        dry_run=dry_run,
        edit=edit,
        sandbox=sandbox,
        warn=notice,
    )
    click.echo(json.dumps(result.as_dict()) if as_json else result.words())
    raise SystemExit(result.exit_code)


@dlq.command(short_help="Write payloads as NDJSON, for `ingestd replay`.")
@letter_filters
@letter_state
@click.option("--output", type=click.Path(path_type=Path), help="A file instead of standard output.")
@spool_options
@click.option(
    "--json", "as_json", is_flag=True, help="Whole letters with their reasons, one JSON object a line."
)
def export(output: Path | None, state_dir: str | None, settings: Any, as_json: bool, **which: Any) -> None:
    """Write payloads as NDJSON, one a line, as `ingestd replay` reads them back.

    One that is damaged on disk is named and left out; with --json it has "intact": false. Exit code 3 if
    there are any.
    """
    from ingestd.app.letters import letters

    where = letters.make_filter(**which)
    try:
        with (
            output.open("wb") if output else nullcontext(sys.stdout.buffer) as stream,
            letters_directory(state_dir, settings, where) as state_dir,
        ):
            done = letters.export(state_dir, where, stream, as_json=as_json, now=time.time())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"cannot write the export: {error.strerror}") from None
    from ingestd.core.units import counted

    notice(f"{counted(done.letters, 'letter')} exported")
    if done.bent:
        notice(f"{done.bent} of them held line breaks, which are spaces now")
    if done.damaged:
        named = ", ".join(map(str, done.first)) + (" …" if done.damaged > len(done.first) else "")
        there = "they are among these" if as_json else "they are left out"
        notice(
            f"{counted(done.damaged, 'payload')} damaged on disk, {there}: letters {named}."
            " `ingestd dlq show ID --payload` prints what is left"
        )
        raise SystemExit(3)


@dlq.command(short_help="Keep letters from being sent by themselves.")
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@letter_filters
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@spool_options
@_as_json
def park(
    ids: tuple[int, ...],
    everything: bool,
    state_dir: str | None,
    settings: Any,
    as_json: bool,
    **which: Any,
) -> None:
    """Keep letters from being sent by themselves: they wait until `ingestd dlq retry`."""
    from ingestd.app.letters import letters
    from ingestd.app.letters import park as letter_park
    from ingestd.core.units import counted

    if not (ids or any(which.values()) or everything):
        raise click.UsageError("No letters are chosen. Give IDs, filters, or --all.")
    where = letters.make_filter(ids=ids, **which)
    if settings:
        from ingestd.app.cluster import letters_by_command as cluster

        selected, parked = cluster.park(settings, where)
    else:
        selected, parked = letter_park.park(state_dir, where)
    if ids and not selected:
        raise UserError("no such dead letters are waiting")
    if as_json:
        click.echo(json.dumps({"selected": selected, "parked": parked}))
        return
    waited = f", {selected - parked} waited for a person already" if parked < selected else ""
    click.echo(f"{counted(parked, 'letter')} parked{waited}")


@dlq.command()
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@letter_filters
@click.option("--all", "everything", is_flag=True, help="All letters of that state.")
@letter_state
@spool_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@_as_json
def purge(
    ids: tuple[int, ...],
    everything: bool,
    state_dir: str | None,
    settings: Any,
    yes: bool,
    as_json: bool,
    **which: Any,
) -> None:
    """Delete letters for good. Asks first. What a running process is sending at that moment stays."""
    from ingestd.app.letters import letters
    from ingestd.app.letters import purge as letter_purge
    from ingestd.cli import tables

    chosen = any(which[name] for name in FILTERS) or which["state"] != "waiting"
    if not (ids or chosen or everything):
        raise click.UsageError("No letters are chosen. Give IDs, filters, or --all.")

    def confirm(count: int) -> None:
        click.confirm(f"Delete {count} letters for good?", abort=True, err=True)

    where = letters.make_filter(ids=ids, **which)
    if settings:
        from ingestd.app.cluster import letters_by_command as cluster

        done = cluster.purge(settings, where, confirm=None if yes else confirm)
    else:
        done = letter_purge.purge(state_dir, where, confirm=None if yes else confirm)
    tables.print_purged(done.deleted, done.left, interrupted=done.interrupted, as_json=as_json)
    raise SystemExit(130 if done.interrupted else 0)


def _on_nats(config_file: str | None) -> Any:
    """The settings where the spool is on NATS; else None."""
    if not (config_file or os.environ.get("INGESTD_SPOOL_KIND")):
        return None
    from ingestd.config import load

    settings = load(config_file, {})
    return settings if settings.spool.kind == "nats" else None


def _read_payload(path: str) -> bytes:
    """Raises UserError."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    return data.strip()
