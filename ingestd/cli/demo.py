"""``ingestd demo``: the main job on real input, against the built-in sandbox that misbehaves."""

import tempfile
from pathlib import Path

import click

FAULTS = ("429:0.05", "503:0.05", "cut:0.05", "partial:0.05")


@click.command(short_help="Replay a sample into the sandbox, with faults, and print the ledger.")
@click.option("--events", default=20_000, show_default=True, type=click.IntRange(1, 10_000_000))
@click.option("--dir", "directory", metavar="DIR", help="Keep sample and state here [a temporary directory].")
def demo(events: int, directory: str | None) -> None:
    """Replay a sample into the sandbox, with faults, and print the ledger.

    The sample has 2 % duplicates and 1 % invalid events; the sandbox refuses, fails and cuts connections.
    Every event is accounted for at the end.
    """
    with tempfile.TemporaryDirectory(prefix="ingestd-demo-") as temporary:
        state = Path(directory) / "state" if directory else None
        raise SystemExit(_run(Path(directory or temporary), state, events))


def _run(directory: Path, state: Path | None, events: int) -> int:
    from ingestd.cli.replay import run_replay
    from ingestd.sandbox.sample import write_sample

    directory.mkdir(parents=True, exist_ok=True)
    sample = directory / "sample.ndjson.gz"
    counts = write_sample(sample, events)
    click.echo(
        f"sample: {counts.events:,} events, of them {counts.duplicates:,} duplicates and"
        f" {counts.invalid:,} invalid, in {sample.name} ({sample.stat().st_size:,} bytes)"
    )
    click.echo(f"sandbox: {', '.join(FAULTS)} (kind and share of requests)")
    code = run_replay(
        [str(sample)],
        {
            ("state", "dir"): str(state) if state else None,
            ("batch", "max_bytes"): 50_000,
            ("api", "region"): None,
        },
        sandbox=True,
        sandbox_faults=FAULTS,
    )
    return 0 if code == 3 else code  # the invalid events are part of the sample
