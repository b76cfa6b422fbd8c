"""``ingestd check``: parse, look at everything, print a line for each finding."""

from typing import TYPE_CHECKING, Any

import click

from ingestd.cli.options import F, api_options, common_options, overrides

if TYPE_CHECKING:
    from ingestd.app.checks.finding import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "red"}


def listen_options(command: F) -> F:
    """``--listen --admin-listen``."""
    command = click.option(
        "--admin-listen", metavar="ADDRESS:PORT", help="Metrics, health and status [127.0.0.1:9464]."
    )(command)
    return click.option("--listen", metavar="ADDRESS:PORT", help="Where producers post [127.0.0.1:8080].")(
        command
    )


@click.command(short_help="Check configuration, files, ports and disk before a start.")
@api_options
@common_options
@listen_options
@click.option("--online", is_flag=True, help="Also log in, and ask the API whether it knows the token.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(config_file: str | None, online: bool, as_json: bool, **given: Any) -> None:
    """Check everything that `ingestd run` needs. Prints one line for each check, with what to do.

    Sends no event, leaves nothing behind, and finds errors of a configuration before a restart or a reload.
    If the service is running already, its used ports and directory are only warnings.

    \b
    Examples:
      ingestd check --config /etc/ingestd.toml
      ingestd check --config /etc/ingestd.toml --online      logs in too
      ingestd check --config new.toml && systemctl reload ingestd

    \b
    Exit codes: 0 nothing failed (there may be warnings); 2 something failed; 4 all is well here, but
    the API could not be reached or refused the login.
    """
    import asyncio

    from ingestd.app import early_signals
    from ingestd.app.checks.run import Report, check_all

    report = Report()

    async def look() -> None:
        async for finding in check_all(report, config_file, overrides(**given), online=online):
            if not as_json:
                show_finding(finding)

    early_signals.give_back_interrupt()
    asyncio.run(look())
    if as_json:
        click.echo(report.as_json())
    raise SystemExit(report.exit_code)


def show_finding(finding: "Finding") -> None:
    level = click.style(f"{finding.level:<4}", fg=_COLOURS[finding.level])
    click.echo(f"{level}  {finding.check:<15}  {finding.text}")
