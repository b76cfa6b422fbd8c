"""``ingestd audit``: the audit file for people. Parses and prints; the work is in ``app/audit_lines.py``."""

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from ingestd.cli.options import state_and_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.telemetry.audit_verification import AuditFindings

BROKEN = 3
SHOWN_PROBLEMS = 50


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Look into the audit file, and check that nobody changed it.")
def audit() -> None:
    """The audit file, with those it was rotated to: one line for each lifecycle event, chained so that
    changes show.

    Edges and workers on several machines have none: with their --config, tail and grep show what persons did
    to their spool by commands.

    \b
    Examples:
      ingestd audit verify --state-dir /var/lib/ingestd
      ingestd audit tail -n 50 -f
      ingestd audit grep --event DEAD_LETTERED --since 2h
      ingestd audit grep --request-id 0198c1f2 --json
    """


@audit.command()
@click.argument("file", metavar="[FILE]", required=False)
@state_and_config
@click.option(
    "--noted",
    metavar="CHAIN",
    default="",
    help="A `last` value that verify printed before: check that it is there.",
)
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    metavar="FILE",
    help="Key of the chain [audit.key_file, or audit.key in the state directory]. Repeatable.",
)
@_as_json
@click.pass_context
def verify(
    ctx: click.Context,
    file: str | None,
    state_dir: str | None,
    config_file: str | None,
    noted: str,
    key_files: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check that no line was changed, removed, inserted or moved. Exit code 0: all lines are as they were
    written; 3: some are not.

    Lines are chained with a key (audit.key_file): without it nobody can forge them. Verify alone
    cannot notice that lines are missing at the end: keep the printed `last` value elsewhere and pass it with
    --noted.
    """
    from ingestd.app import audit_lines

    place = audit_lines.find_log(file, state_dir, config_file)
    found = audit_lines.verify(place, noted=noted, key_files=key_files)
    if as_json:
        click.echo(json.dumps(_as_dict(found)))
    else:
        _print(found)
    ctx.exit(BROKEN if found.problem_count else 0)


@audit.command()
@click.argument("file", metavar="[FILE]", required=False)
@click.option(
    "-n", "count", type=click.IntRange(0, 1_000_000), default=20, show_default=True, help="Number of lines."
)
@click.option("-f", "--follow", is_flag=True, help="Continue with new lines, also after a rotation.")
@state_and_config
@_as_json
def tail(
    count: int,
    follow: bool,
    file: str | None,
    state_dir: str | None,
    config_file: str | None,
    as_json: bool,
) -> None:
    """Show the last lines."""
    from ingestd.app.audit_lines import chosen, find_log, in_spool, last_lines

    if (found := in_spool(file, state_dir, config_file)) is not None:
        if follow:
            raise click.UsageError("-f is for the audit file: what is noted in a spool on NATS is read once")
        lines = iter(found[-count:] if count else [])
    else:
        lines = last_lines(find_log(file, state_dir, config_file).path, count, follow=follow)
    _print_lines(chosen(lines), as_json=as_json, live=follow)


@audit.command(short_help="Show the lines that contain TEXT and match the options.")
@click.argument("text", metavar="[TEXT]", default="")
@click.option("--event", "events", metavar="NAME", multiple=True, help="Lines of this event. Repeatable.")
@click.option("--since", metavar="TIME", help="Lines that are not older than this, e.g. 1h.")
@click.option("--sink", metavar="NAME", help="Lines of this sink.")
@click.option("--request-id", metavar="ID", help="Lines of this request; the beginning of its id is enough.")
@click.option("--file", metavar="FILE", help="The audit file [audit.jsonl in the state directory].")
@state_and_config
@_as_json
def grep(
    text: str,
    events: tuple[str, ...],
    since: str | None,
    sink: str | None,
    request_id: str | None,
    file: str | None,
    state_dir: str | None,
    config_file: str | None,
    as_json: bool,
) -> None:
    """Show the lines that contain TEXT (case-insensitive) and match all other options. Oldest first."""
    from ingestd.app.audit_lines import all_lines, chosen, find_log, in_spool, make_choice

    choice = make_choice(text=text, events=events, since=since, sink=sink, request_id=request_id)
    found = in_spool(file, state_dir, config_file)
    lines = iter(found) if found is not None else all_lines(find_log(file, state_dir, config_file).path)
    _print_lines(chosen(lines, choice), as_json=as_json)


def _print_lines(
    lines: "Iterator[tuple[bytes, dict[str, Any] | None]]", *, as_json: bool, live: bool = False
) -> None:
    """``as_json``: as they stand in the file, only what is JSON; ``live``: each at once."""
    from ingestd.app.audit_lines import show, show_garbage

    out = sys.stdout
    for data, entry in lines:
        if entry is not None:
            out.write((data.decode() if as_json else show(entry)) + "\n")
        elif not as_json:
            out.write(show_garbage(data) + "\n")
        if live:
            out.flush()


def _as_dict(found: "AuditFindings") -> dict[str, object]:
    return {
        "ok": not found.problem_count,
        "files": found.files,
        "lines": found.lines,
        "chained": found.chained,
        "keyed": found.keyed,
        "unchained": found.unchained,
        "writers": found.writers,
        "older_gone": found.older_gone,
        "torn": [{"file": file, "line": line} for file, line in found.torn],
        "problem_count": found.problem_count,
        "problems": [problem._asdict() for problem in found.problems],
        "last": found.last or None,
    }


def _print(found: "AuditFindings") -> None:
    for problem in found.problems[:SHOWN_PROBLEMS]:
        click.echo(f"BAD   {problem.file}{f':{problem.line}' if problem.line else ''}: {problem.what}")
    if found.problem_count > SHOWN_PROBLEMS:
        click.echo(f"BAD   and {found.problem_count - SHOWN_PROBLEMS} more: see --json")
    for file, line in found.torn[:SHOWN_PROBLEMS]:
        click.echo(
            f"torn  {file}:{line}: not written to its end, after a crash or on a full disk; no forgery"
        )
    if found.older_gone:
        click.echo("the oldest file continues one that is gone, as after a rotation")
    parts = [f"{found.chained} chained by {found.writers} {'process' if found.writers == 1 else 'processes'}"]
    parts += [f"{found.unchained} from before there was a chain"] if found.unchained else []
    parts += [f"{len(found.torn)} torn"] if found.torn else []
    files = "1 file" if len(found.files) == 1 else f"{len(found.files)} files"
    click.echo(f"{found.lines} lines in {files}: {', '.join(parts)}; {found.problem_count} problems")
    if unkeyed := found.chained - found.keyed:
        covered = "the first line with a key covers them" if found.keyed else "so all of them can be forged"
        click.echo(f"note  {unkeyed} chained lines have no key, as before there were keys: {covered}")
    if found.last:
        click.echo(f"last  {found.last}")
