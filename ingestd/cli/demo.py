"""``ingestd demo``: the main job on real input, against the built-in sandbox that misbehaves."""

import shlex
import shutil
import sys
from pathlib import Path

import click

from ingestd.core.errors import UserError

FAULTS = ("429:0.05", "503:0.05", "cut:0.05", "partial:0.05")
SAMPLE = "sample.ndjson.gz"
WRONG, RIGHT = "HOLD_", ""
"""What is wrong in some events of the sample, and can be put right by one command: their actionType."""


@click.command(short_help="Replay a sample into the sandbox, with faults, and print the ledger.")
@click.option("--events", default=20_000, show_default=True, type=click.IntRange(1, 10_000_000))
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    default="ingestd-demo",
    show_default=True,
    help="Sample and state; what an earlier demo left there is replaced.",
)
def demo(events: int, directory: str) -> None:
    """Replay a sample into the sandbox, with faults, and print the ledger.

    The sample has 2 % duplicates and 1 % invalid events; the sandbox refuses, fails and cuts connections.
    Every event is accounted for at the end, and what was rejected can be looked at, corrected and sent.
    """
    raise SystemExit(_run(Path(directory), events))


def _run(directory: Path, events: int) -> int:
    from ingestd.cli.replay import run_replay
    from ingestd.sandbox.sample import write_sample

    sample, state = directory / SAMPLE, directory / "state"
    _make_empty(directory, sample, state)
    counts = write_sample(sample, events)
    click.echo(
        f"sample: {counts.events:,} events, of them {counts.duplicates:,} duplicates and"
        f" {counts.invalid:,} invalid, in {sample} ({sample.stat().st_size:,} bytes)"
    )
    click.echo(f"sandbox: {', '.join(FAULTS)} (kind and share of requests)")
    code = run_replay(
        [str(sample)],
        {("state", "dir"): str(state), ("batch", "max_bytes"): 50_000, ("api", "region"): None},
        sandbox=True,
        sandbox_faults=FAULTS,
    )
    if code == 3:  # the invalid events are part of the sample
        _print_next_steps(directory, state)
    return 0 if code == 3 else code


def _make_empty(directory: Path, sample: Path, state: Path) -> None:
    """A folder that is not of a demo stays as it is. Raises UserError."""
    try:
        if directory.exists() and not sample.exists() and any(directory.iterdir()):
            raise UserError(f"{directory} has other files in it: choose another folder with --dir")
        directory.mkdir(parents=True, exist_ok=True)
        if state.exists():
            shutil.rmtree(state)
    except OSError as error:
        raise UserError(
            f"cannot use {directory}: {error.strerror}; choose another folder with --dir"
        ) from None


def _print_next_steps(directory: Path, state: Path) -> None:
    import time

    from ingestd.app.letters import letters

    where = letters.make_filter(reason="invalid")
    with letters.find(str(state), where, limit=100_000, now=time.time()) as (found, _):
        number = next((one["id"] for one in found if WRONG in one.get("payload", "")), None)
    if number is None:
        return
    me, corrected = _own_name(), shlex.quote(str(directory / "corrected.json"))
    at = f"--state-dir {shlex.quote(str(state))}"
    click.echo("\nNow look at an event that was rejected, correct it, and send it:\n")
    click.echo(f"  {me} dlq show {number} {at}")
    click.echo(f"  {me} dlq show {number} {at} --payload | sed 's/{WRONG}/{RIGHT}/' > {corrected}")
    click.echo(f"  {me} dlq retry {number} {at} --edit {corrected} --sandbox")


def _own_name() -> str:
    """As this command can be called again from here."""
    if sys.argv[0].endswith("__main__.py"):
        return f"{shlex.quote(sys.executable)} -m ingestd"
    found = shutil.which("ingestd")
    here = found is not None and Path(found).samefile(sys.argv[0]) if Path(sys.argv[0]).exists() else True
    return "ingestd" if here else shlex.quote(sys.argv[0])
