"""What ``ingestd run`` does once its words are parsed."""

from functools import partial

from ingestd import log
from ingestd.cli.replaying import run_loop
from ingestd.config import Overrides, load
from ingestd.service.run import open_service, run


def run_service(config_file: str | None, overrides: Overrides) -> int:
    """The exit code. Raises UserError for what could not even begin."""
    settings = load(config_file, overrides)
    log.configure(settings.log.format, settings.log.level)

    async def session() -> int:
        async with open_service(partial(load, config_file, overrides)) as service:
            await run(service)
        return service.exit_code

    return run_loop(session)
