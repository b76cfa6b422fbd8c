"""What ``ingestd replay`` does once its words are parsed."""

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click

from ingestd.app.event_loop import run_loop
from ingestd.app.replay import Replay, open_replay, run
from ingestd.app.replay_report import make_report
from ingestd.cli.progress import open_display
from ingestd.cli.say import say
from ingestd.config import Login, Overrides, Settings, find_login, load
from ingestd.core.address import is_exposed
from ingestd.core.errors import UserError


def run_replay(
    sources: Sequence[str],
    overrides: Overrides,
    *,
    config_file: str | None = None,
    sandbox: bool = False,
    sandbox_faults: Sequence[str] = (),
    from_start: bool = False,
    report_file: str | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> int:
    """The exit code. Raises UserError for what could not even begin."""
    settings = load(config_file, overrides)
    display = open_display(quiet=quiet)

    async def session() -> Replay:
        async with AsyncExitStack() as stack:
            login, adapted = await _where_to(settings, sandbox, sandbox_faults, stack)
            if login and login.token_url and is_exposed(login.token_url):
                display.warn(f"the credentials go to {login.token_url} unencrypted: use https")
            replay = await stack.enter_async_context(
                open_replay(adapted, login, sources, from_start=from_start, warn=display.warn)
            )
            async with display.showing(replay):
                await run(replay, warn=display.warn, on_second_signal=lambda: display.warn("ended at once"))
            return replay

    replay = run_loop(session)
    report = make_report(replay)
    if report_file:
        write_report(report_file, report)
    if as_json:
        click.echo(json.dumps(report))
    elif not quiet:
        display.summary(replay)
    for damage in replay.damage:
        say(damage)
    if replay.error:
        say(replay.error)
    return replay.exit_code


async def _where_to(
    settings: Settings, sandbox: bool, faults: Sequence[str], stack: AsyncExitStack
) -> tuple[Login | None, Settings]:
    """The API to send to; with ``sandbox`` one that is started here, with a state directory of its own."""
    if not sandbox:
        return find_login(settings), settings
    from pydantic import SecretStr

    from ingestd.sandbox.apis.ingest import SandboxOptions
    from ingestd.sandbox.faults import parse_faults
    from ingestd.sandbox.server import Sandbox

    known = settings.schema_.name if settings.schema_.name in ("interaction", "cloudevent") else None
    options = SandboxOptions(schema=known, faults=parse_faults(faults))
    running = await stack.enter_async_context(Sandbox(options).serve())
    login = Login(
        api=running.url,
        token_url=running.token_url,
        client_id="sandbox",
        client_secret=SecretStr("sandbox"),
    )
    if not settings.state.dir:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ingestd-sandbox-"))
        settings = settings.model_copy(update={"state": settings.state.model_copy(update={"dir": directory})})
    return login, settings


def write_report(path: str, report: dict[str, Any]) -> None:
    """Whole or not at all: a reader never sees half of it. Raises UserError."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"cannot write the report {path}: {error.strerror}") from None
