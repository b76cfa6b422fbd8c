"""``ingestd doctor``: all that ``check`` looks at, the installation, and what only a live API can tell."""

from pathlib import Path
from typing import Any

import click

from ingestd.cli.check import listen_options, show_finding
from ingestd.cli.options import api_options, common_options, overrides


@click.command(short_help="Tell what is wrong here or at the API, and write a bug report.")
@api_options
@common_options
@listen_options
@click.option("--online", is_flag=True, help="Also log in, and ask the organization. Sends no event.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--bundle", metavar="FILE", help="Also write a bug report: a new JSON file without secrets.")
@click.option("--log", "log_file", metavar="FILE", help="With --bundle: take the last errors of this log.")
def doctor(
    config_file: str | None,
    online: bool,
    as_json: bool,
    bundle: str | None,
    log_file: str | None,
    **given: Any,
) -> None:
    """Tell what is wrong here or at the API. Prints one line for each check, with what to do.

    Looks at the installation and at all that `ingestd check` looks at. With --online it logs in and asks
    Genesys Cloud for the organization, the client, its permissions, its limits and the time. An empty
    request finds out whether the client may send; no event is sent.

    The bug report has versions, settings without secrets, these findings, the last errors of the audit
    file, sizes of the state, counts of dead letters by reason, and the status of a running service. It has
    no payloads.

    \b
    Examples:
      ingestd doctor --config /etc/ingestd.toml --online
      ingestd doctor --config /etc/ingestd.toml --bundle report.json
      journalctl -u ingestd > log.txt; ingestd doctor --bundle report.json --log log.txt

    \b
    Exit codes: 0 nothing failed (there may be warnings); 2 something failed; 4 all is well here, but
    the API or the organization is not as it must be.
    """
    import asyncio

    from ingestd.app import early_signals
    from ingestd.app.checks.run import Report, check_all

    if log_file and not bundle:
        raise click.UsageError("--log goes with --bundle.")
    report = Report()

    async def look() -> None:
        async for finding in check_all(
            report, config_file, overrides(**given), online=online, as_doctor=True
        ):
            if not as_json:
                show_finding(finding)
        if bundle:
            from ingestd.app import bug_report
            from ingestd.core.clock import SystemClock

            found = await bug_report.collect(
                report.findings, config_file, overrides(**given), log_file=log_file, clock=SystemClock()
            )
            bug_report.write(Path(bundle), found)

    early_signals.give_back_interrupt()
    asyncio.run(look())
    if as_json:
        click.echo(report.as_json())
    else:
        if not online:
            click.echo("      online           not asked: --online logs in and asks the organization")
        if bundle:
            click.echo(f"      bug report       {bundle}")
    raise SystemExit(report.exit_code)
