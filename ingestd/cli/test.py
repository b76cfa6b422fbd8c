"""``ingestd test``: the tests that stand in a configuration."""

import json

import click


@click.command()
@click.option("--config", "config_file", metavar="FILE", help="TOML configuration, with [[tests]].")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each test.")
def test(config_file: str | None, as_json: bool) -> None:
    """Run the tests of a configuration: events, and what each sink gets of them. Nothing is sent.

    \b
    [[tests]]
    name = "calls reach the CRM without their number"
    event = '{"eventType": "call", "phone": "+4930123", "queue": "q1"}'
    [tests.gets]
    crm = '{"eventType": "call", "queue": "q1"}'
    quality = "dropped"

    A sink that is not named is not looked at. Instead of an event: dropped (by a transform), failed (a
    transform cannot do its work) and unmatched (not for this sink). With `rejected` the event is invalid, and
    the refusal has these words.

    \b
    Exit codes: 0 all is as expected; 3 something is not; 2 usage or configuration.
    """
    from ingestd.app.transforms import run_tests

    failed = total = 0
    for name, wrong in run_tests(config_file):
        total += 1
        failed += bool(wrong)
        if as_json:
            click.echo(json.dumps({"test": name, "ok": not wrong, "wrong": wrong}))
            continue
        click.echo(f"{click.style('FAIL', fg='red') if wrong else click.style('ok  ', fg='green')}  {name}")
        for line in wrong:
            click.echo(f"      {line}")
    if not as_json:
        click.echo(f"{total - failed} of {total} tests are as expected")
    raise SystemExit(3 if failed else 0)
