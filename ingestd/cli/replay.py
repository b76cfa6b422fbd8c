"""``ingestd replay``: parse, run, show how it went."""

from typing import Any

import click

from ingestd.cli.options import api_options, common_options, overrides


@click.command(short_help="Send the events of files or standard input to the event API.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@api_options
@click.option("--sandbox", is_flag=True, help="Start the sandbox inside and replay into it.")
@common_options
@click.option("--max-batch-bytes", metavar="N", help="Largest request body, envelope included [500000].")
@click.option("--max-batch-events", metavar="N", help="Most events in a request [5000].")
@click.option("--max-in-flight", metavar="N", help="Requests at once [5].")
@click.option(
    "--give-up-after", metavar="TIME", help="How long a batch is tried before it becomes dead letters [15m]."
)
@click.option("--from-start", is_flag=True, help="Ignore the checkpoint of a file seen before.")
@click.option("--items", metavar="NAME", help='Events are in lists of this name: {"NAME": [...]}.')
@click.option("--max-window", metavar="SIZE", help="Memory that a zstd frame may ask for [128MiB].")
@click.option("--report", "report_file", metavar="FILE", help="Write the ledger as JSON.")
@click.option("--metrics-port", metavar="N", help="Serve /metrics for Prometheus on 127.0.0.1.")
@click.option("--audit-log", metavar="FILE", help="Audit file [audit.jsonl in the state directory].")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="No progress, no summary; errors only.")
def replay(sources: tuple[str, ...], **given: Any) -> None:
    """Send the events of SOURCE... (files, or - for standard input) to the event API, all of them, once.

    NDJSON, JSON arrays or JSON values; plain, gzip or zstd. Run it again after an interruption: it goes
    on behind the last event that had its end. Standard input cannot be read again: of it, everything that was
    read when a run ends early is kept as dead letters; after kill -9, what was not yet sent is the
    producer's to send again.

    \b
    Examples:
      ingestd replay events.ndjson.gz --region us-east-1
      zcat old/*.gz | ingestd replay - --api https://api.example.com --token-url https://login.example.com/oauth/token
      ingestd replay events.ndjson --sandbox --schema my_schema.json --dedup-key orderId,version
    """
    from ingestd.cli.replaying import run_replay

    if given["sandbox"] and (given["api"] or given["region"]):
        raise click.UsageError("--sandbox is an API of its own: leave out --api and --region")
    if sources.count("-") > 1:
        raise click.UsageError("standard input (-) can be read once only")
    options = {name: given.pop(name) for name in ("from_start", "report_file", "as_json", "quiet", "sandbox")}
    config_file = given.pop("config_file")
    raise SystemExit(run_replay(sources, overrides(**given), config_file=config_file, **options))
