"""Where a replay sends: the API of the settings, or a sandbox that is started for it."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from ingestd.app.state_place import sandbox_state
from ingestd.config import Login, Settings, find_login
from ingestd.core.address import is_exposed
from ingestd.core.setting_types import SecretStr


async def find_target(
    settings: Settings, sandbox: bool, faults: Sequence[str], stack: AsyncExitStack
) -> tuple[Login | None, Settings]:
    """The API to send to; with ``sandbox`` one that is started here, with a state directory of its own."""
    if not sandbox:
        return find_login(settings), settings
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
        directory = str(stack.enter_context(sandbox_state()))
        settings = settings.model_copy(update={"state": settings.state.model_copy(update={"dir": directory})})
    return login, settings


def warn_if_exposed(login: Login | None, warn: Callable[[str], None]) -> None:
    if login and login.token_url and is_exposed(login.token_url):
        warn(f"{login.token_url} uses plain HTTP, so the credentials are sent unencrypted. Use https.")
