"""Which sinks there are: every file of this room that has a section with a ``type``. Nobody lists them."""

import importlib
import pkgutil
import typing
from collections.abc import Iterator

from ingestd import sinks
from ingestd.sinks.settings import SinkConfigBase


def type_of(section: type[SinkConfigBase]) -> str:
    """``webhook``; empty for what several sections have in common."""
    field = section.model_fields.get("type")
    return typing.get_args(field.annotation)[0] if field else ""


def _sections() -> Iterator[type[SinkConfigBase]]:
    for found in pkgutil.iter_modules(sinks.__path__):
        module = importlib.import_module(f"{sinks.__name__}.{found.name}")
        own = [one for one in vars(module).values() if getattr(one, "__module__", "") == module.__name__]
        yield from (one for one in own if isinstance(one, type) and issubclass(one, SinkConfigBase))


SINK_TYPES = {kind: section for section in _sections() if (kind := type_of(section))}
"""By ``type`` the sections of the sinks."""
