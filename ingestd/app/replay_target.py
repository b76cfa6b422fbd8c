"""Where a replay sends: the API of the settings, or a sandbox that is started for it."""

import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack

from ingestd.config import Login, Settings, find_login
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
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ingestd-sandbox-"))
        settings = settings.model_copy(update={"state": settings.state.model_copy(update={"dir": directory})})
    return login, settings
