"""What ``ingestd run`` does once its words are parsed."""

import gc
import sys
from functools import partial

from ingestd.app.event_loop import run_loop
from ingestd.app.run import open_service, run
from ingestd.config import Overrides, load
from ingestd.telemetry import log

_SWITCH_S = 0.0005
"""How long the event loop keeps the interpreter from the store's thread. Python's 5 ms are longer than a
commit takes, and every producer waits for its commit."""


def run_service(config_file: str | None, overrides: Overrides) -> int:
    """The exit code. Raises UserError for what could not even begin."""
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(50_000, 20, 20)  # unlike a replay it runs for months: rare cycles must go too
    settings = load(config_file, overrides)
    log.configure(settings.log.format, settings.log.level)

    async def session() -> int:
        async with open_service(partial(load, config_file, overrides)) as service:
            await run(service)
        return service.exit_code

    return run_loop(session)
