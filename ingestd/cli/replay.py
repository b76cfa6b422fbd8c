"""``ingestd replay``: parse, run, show how it went."""

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ingestd.cli.notice import notice
from ingestd.cli.options import api_options, common_options, overrides

if TYPE_CHECKING:
    from ingestd.app.replay_report import ReplayOutcome
    from ingestd.cli.progress import Display
    from ingestd.config import Overrides


@click.command(short_help="Send the events of files or standard input to the event API.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@api_options
@click.option("--sandbox", is_flag=True, help="Start the sandbox inside and replay into it.")
@common_options
@click.option("--max-batch-bytes", metavar="N", help="Largest request body, envelope included [500000].")
@click.option("--max-batch-events", metavar="N", help="Most events in a request [5000].")
@click.option("--max-in-flight", metavar="N", help="Most requests at the same time [5].")
@click.option(
    "--give-up-after",
    metavar="TIME",
    help="How long a batch is tried before its events become dead letters [15m].",
)
@click.option("--from-start", is_flag=True, help="Ignore the checkpoint of a file seen before.")
@click.option("--items", metavar="NAME", help='Events are in lists of this name: {"NAME": [...]}.')
@click.option(
    "--format",
    "layout",
    metavar="NAME",
    help="lines, values, csv, parquet, or auto: as a file begins [auto].",
)
@click.option("--delimiter", metavar="CHAR", help="Separates the cells of CSV: a character, or tab [,].")
@click.option("--unwrap", metavar="PATH", help="Where the event is in its envelope: detail, Records.")
@click.option(
    "--keep-going",
    is_flag=True,
    default=None,
    help="Go on though the first 100 events are all refused for one reason.",
)
@click.option(
    "--max-rejected",
    metavar="N|N%",
    help="Exit code 0 with up to so many rejected events; more end the replay [not set: exit code 3].",
)
@click.option("--max-window", metavar="SIZE", help="Memory that a zstd frame may ask for [128MiB].")
@click.option("--report", "report_file", metavar="FILE", help="Write the ledger as JSON.")
@click.option("--metrics-port", metavar="N", help="Serve /metrics for Prometheus on 127.0.0.1.")
@click.option("--audit-log", metavar="FILE", help="Audit file [audit.jsonl in the state directory].")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="No progress, no summary; only what went wrong.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    metavar="N",
    help="Processes: each takes its part of the events, split by key [1].",
)
def replay(sources: tuple[str, ...], **given: Any) -> None:
    """Send the events of SOURCE... (files, or - for standard input) to the event API, all of them, once.

    NDJSON, JSON arrays, JSON values, CSV; plain, gzip or zstd; Parquet. Run it again after an interruption:
    it resumes after the last resolved event. Standard input cannot be read again: when a run ends early, what
    it has read of it is kept as dead letters; after kill -9, the producer must send again what was not sent.

    \b
    Examples:
      ingestd replay events.ndjson.gz --region us-east-1
      zcat old/*.gz | ingestd replay - --api https://api.example.com --token-url https://login.example.com/oauth/token
      ingestd replay events.ndjson --sandbox --schema my_schema.json --dedup-key orderId,version
    """
    if given["sandbox"] and (given["api"] or given["region"]):
        raise click.UsageError("Use either --sandbox, or --api and --region.")
    if given["sandbox"] and given["workers"] > 1:
        raise click.UsageError(
            "--sandbox is one process, and no faster for --workers: start `ingestd sandbox`, and give its API"
        )
    if sources.count("-") > 1:
        raise click.UsageError("standard input (-) can be read once only")
    options = {
        name: given.pop(name)
        for name in ("from_start", "report_file", "as_json", "quiet", "sandbox", "workers")
    }
    config_file = given.pop("config_file")
    raise SystemExit(run_replay(sources, overrides(**given), config_file=config_file, **options))


def run_replay(
    sources: Sequence[str],
    settings_given: "Overrides",
    *,
    config_file: str | None = None,
    sandbox: bool = False,
    sandbox_faults: Sequence[str] = (),
    from_start: bool = False,
    report_file: str | None = None,
    as_json: bool = False,
    quiet: bool = False,
    workers: int = 1,
) -> int:
    """The exit code. Raises UserError for what could not even begin."""
    from ingestd.app.event_loop import run_loop
    from ingestd.app.replay import Replay, open_replay, run
    from ingestd.app.replay_progress import progress_of
    from ingestd.app.replay_report import outcome_of
    from ingestd.app.replay_target import find_target, warn_if_exposed
    from ingestd.cli.progress import open_display
    from ingestd.config import load

    settings = load(config_file, settings_given)
    display = open_display(quiet=quiet)
    show = partial(_show, display=display, report_file=report_file, as_json=as_json, quiet=quiet)
    if workers > 1:
        from ingestd.app.parts.together import replay_in_parts

        return show(
            replay_in_parts(
                settings, sources, workers, from_start=from_start, warn=display.warn, showing=display.showing
            )
        )

    async def session() -> Replay:
        async with AsyncExitStack() as stack:
            login, adapted = await find_target(settings, sandbox, sandbox_faults, stack)
            warn_if_exposed(login, display.warn)
            replay = await stack.enter_async_context(
                open_replay(adapted, login, sources, from_start=from_start, warn=display.warn)
            )
            async with display.showing(partial(progress_of, replay)):
                await run(replay, warn=display.warn, on_second_signal=lambda: display.warn("forced shutdown"))
            return replay

    return show(outcome_of(run_loop(session)))


def _show(
    outcome: "ReplayOutcome", *, display: "Display", report_file: str | None, as_json: bool, quiet: bool
) -> int:
    """The exit code."""
    from ingestd.app.replay_report import write_report

    report = outcome.report
    exit_code: int = report["exit_code"]
    if report_file:
        write_report(report_file, report)
    if as_json:
        click.echo(json.dumps(report))
    elif not quiet:
        display.summary(outcome)
    for damage in outcome.damage:
        notice(damage)
    if report["error"]:
        notice(report["error"])
    elif quiet and not outcome.damage and exit_code:
        notice(_shortfall(report))
    return exit_code


def _shortfall(report: "dict[str, Any]") -> str:
    """Why the exit code of a run that went to its end is not 0, in one line."""
    names = {
        "rejected": "rejected",
        "dead_lettered": "dead letters",
        "in_flight": "not sent yet",
        "retried_failed": "dead letters of earlier runs failed again",
        "retried_aside": "dead letters of earlier runs wait for a person",
        "unmatched_item_errors": "errors in answers that belong to no event",
    }
    counts = ", ".join(f"{report[name]:,} {words}" for name, words in names.items() if report[name])
    how = "interrupted" if report["interrupted"] else f"exit code {report['exit_code']}"
    delivered = f"of {report['accepted']:,} events {report['delivered']:,} were delivered"
    return f"{how}: {delivered}; {counts}" if counts else f"{how}: {delivered}"
