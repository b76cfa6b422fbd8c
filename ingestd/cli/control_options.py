"""Options that all commands of the control plane share, and the session that they open."""

from typing import TYPE_CHECKING, Any, TypeVar

import click

from ingestd.cli.options import F, api_options, overrides

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ingestd.app.control.session import Control

T = TypeVar("T")

DEFAULT_WAIT = "2m"

_OPTIONS = [
    click.option(
        "--sandbox",
        is_flag=True,
        help="Use a running `ingestd sandbox` (port 8700, or --api URL). Implies --allow-private.",
    ),
    click.option("--config", "config_file", metavar="FILE", help="TOML configuration, for [api]."),
    click.option("--state-dir", metavar="DIR", help="State and audit file [one directory for each API]."),
    click.option(
        "--allow-private",
        is_flag=True,
        help="Let resources name loopback, private and link-local addresses.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
]


def control_options(command: F) -> F:
    """``--api --region --token-url --no-auth --sandbox --config --state-dir --allow-private --json``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return api_options(command)


def wait_option(command: F) -> F:
    return click.option(
        "--wait",
        metavar="TIME",
        default=DEFAULT_WAIT,
        show_default=True,
        help="How long one step may take until it is verified or active.",
    )(command)


def run_session(
    work: "Callable[[Control], Awaitable[T]]",
    *,
    sandbox: bool,
    config_file: str | None,
    allow_private: bool,
    wait: str = DEFAULT_WAIT,
    as_json: bool = False,
    **given: Any,
) -> T:
    """What ``work`` gives. Raises UserError; what is ``given`` are the other options of above."""
    from ingestd.app.control.session import open_control
    from ingestd.app.event_loop import run_loop
    from ingestd.app.login import login_by_hand
    from ingestd.cli.notice import notice
    from ingestd.config import load, state_directory

    del as_json  # the command prints it
    if sandbox and given["region"]:
        raise click.UsageError("Use either --sandbox or --region, not both.")
    own = {name: value for name, value in given.items() if not (sandbox and name in ("api", "token_url"))}
    settings = load(config_file, overrides(**own))
    login = login_by_hand(settings.api, given, sandbox=sandbox, warn=notice)
    directory = state_directory(settings, login)
    deadline_s = _seconds(wait)

    async def session() -> T:
        async with open_control(
            settings, login, directory, deadline_s=deadline_s, allow_private=allow_private or sandbox
        ) as control:
            return await work(control)

    return run_loop(session)


def _seconds(wait: str) -> float:
    from ingestd.core import units
    from ingestd.core.errors import UserError

    try:
        return units.seconds(wait)
    except ValueError as error:
        raise UserError(f"--wait: {error}") from None
