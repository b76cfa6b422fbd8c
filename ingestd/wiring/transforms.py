"""Makes the transforms of a sink from the settings: those for all sinks, then its own.

Called by ``open_sinks.py``, by ``check``, ``routes test`` and ``test``. Files of secrets are read here.
"""

import hashlib
import os
import sys
from collections.abc import Iterator

from ingestd.config import Settings
from ingestd.core import redaction
from ingestd.core.errors import UserError
from ingestd.core.transform_section import TransformConfig
from ingestd.processing.transforms.program import Program, StepSettings, compile_steps
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.store.database import Database
from ingestd.store.key_log import KeyLog
from ingestd.transport.auth import read_secret

NO_SECRET = b"not the secret of an installation"
"""For a look at what transforms do, where there is no state directory."""


def make_transforms(
    settings: Settings, name: str, section: HttpSinkConfig, *, secret: bytes, max_event_bytes: int
) -> Program | None:
    """None where the sink gets events as they came. ``secret``: the installation's, from which the key of a
    hash without one is made. Raises UserError: which step is wrong, and why."""
    if any(step.python for step in (*settings.transforms, *section.transforms)):
        _look_here()
    own = hashlib.blake2b(b"redact", key=secret, digest_size=32).digest()
    return compile_steps(_steps(settings, name, section, own), max_event_bytes=max_event_bytes)


async def open_transforms(
    settings: Settings, name: str, section: HttpSinkConfig, database: Database, max_event_bytes: int
) -> Program | None:
    """The same, in an installation."""
    secret = await KeyLog(database).secret()
    return make_transforms(settings, name, section, secret=secret, max_event_bytes=max_event_bytes)


def _look_here() -> None:
    """A function may stand in a file in the folder where the command was called. At the end, so that none can
    stand in for one of the libraries."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)


def _steps(settings: Settings, name: str, section: HttpSinkConfig, own: bytes) -> Iterator[StepSettings]:
    places = (("transforms", settings.transforms), (f"sinks.{name}.transforms", section.transforms))
    for setting, steps in places:
        for number, step in enumerate(steps, 1):
            place = f"step {number} of {setting}"
            yield StepSettings(place, step, _key(place, step) or own)


def _key(place: str, step: TransformConfig) -> bytes:
    if not step.secret_file:
        return step.secret.get_secret_value().encode()
    try:
        found = read_secret(step.secret_file)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UserError(f"{place}: cannot read secret_file {step.secret_file}: {why}") from None
    if not found:
        raise UserError(f"{place}: secret_file {step.secret_file} is empty")
    redaction.hide(found)
    return found.encode()
