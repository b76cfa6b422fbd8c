"""``ingestd init``: a commented configuration to begin with, checked. Asks only on a terminal."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ingestd.cli.options import api_options
from ingestd.core.errors import UserError


@click.command(short_help="Write a commented configuration to begin with, and check it.")
@click.argument("file", default="ingestd.toml", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--source", metavar="KIND", help="http (default), replay, files, nats, sqs …")
@click.option("--sink", metavar="TYPE", help="Where events go: ingest_api, genesys_events, webhook …")
@api_options
@click.option("--client-id-file", metavar="FILE", help="Where the client id is [GENESYS_CLIENT_ID].")
@click.option("--client-secret-file", metavar="FILE", help="Where the secret is [GENESYS_CLIENT_SECRET].")
@click.option("--state-dir", metavar="DIR", help="Checkpoints, window and dead letters [state].")
@click.option(
    "--set",
    "settings",
    metavar="PLACE=VALUE",
    multiple=True,
    help="Any other setting, such as ingest.nats.main.stream=ORDERS or batch.max_events=100. Repeatable.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(
    file: Path,
    source: str | None,
    sink: str | None,
    api: str | None,
    region: str | None,
    token_url: str | None,
    no_auth: bool | None,
    client_id_file: str | None,
    client_secret_file: str | None,
    state_dir: str | None,
    settings: tuple[str, ...],
    force: bool,
) -> None:
    """Write a configuration to begin with: what you choose, and all else as a comment with its default.

    On a terminal it asks for what no option says; elsewhere it never asks. Then it runs `ingestd check`, and
    says the next command. FILE is ingestd.toml if not given.

    \b
    Examples:
      ingestd init
      ingestd init --region eu-central-1 --sink genesys_events --set sinks.genesys_events.api=presence
      ingestd init crm.toml --sink webhook --set sinks.webhook.url=https://crm.example.com/events
      ingestd init --source nats --set ingest.nats.main.stream=ORDERS --region eu-central-1

    \b
    Exit codes: 0 written, and nothing failed in the check; 2 usage, or something failed in the check: the
    file is there all the same.
    """
    if file.exists() and not force:
        raise UserError(f"{file} is there already: choose another name, or replace it with --force")
    if api and region:
        raise click.UsageError("Use either --api or --region, not both.")
    from ingestd.app import first_configuration as first

    given = {
        ("api", "url"): api,
        ("api", "region"): region,
        ("api", "token_url"): token_url,
        ("api", "no_auth"): no_auth,
        ("api", "client_id_file"): client_id_file,
        ("api", "client_secret_file"): client_secret_file,
        ("state", "dir"): state_dir,
        **dict(map(first.parse_setting, settings)),
    }
    chosen = {place: value for place, value in given.items() if value is not None}
    answers = first.Answers(chosen, _prompt if _is_terminal() else None)
    kind = first.choose_source(answers, source)
    first.choose_sink(answers, sink)
    answers.ask("Directory of the state", ("state", "dir"), "--state-dir", proposal="state")
    first.write(file, answers.chosen, force=force)
    click.echo(f"{file} is written")
    raise SystemExit(_check(file, replays=kind == first.REPLAY))


def _prompt(words: str, among: Sequence[str], proposal: str | None) -> str:
    kind = click.Choice(among) if among else None
    return str(click.prompt(words, type=kind, default=proposal, err=True))


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _check(file: Path, *, replays: bool) -> int:
    import asyncio

    from ingestd.app.checks.finding import Level
    from ingestd.app.checks.run import Report, check_all
    from ingestd.cli.check import show_finding

    report = Report()

    async def look() -> None:
        async for finding in check_all(report, str(file), {}, online=False):
            if finding.level is not Level.OK:
                show_finding(finding)

    asyncio.run(look())
    config = f"--config {shlex.quote(str(file))}"
    if report.exit_code:
        click.echo(f"next: correct what failed, then run: ingestd check {config} --online")
    else:
        click.echo(f"next: ingestd {'replay EVENTS' if replays else 'run'} {config}")
        click.echo(f"or, to log in and look at the API first: ingestd doctor {config} --online")
    return report.exit_code
