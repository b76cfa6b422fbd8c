"""Which sinks there are: every file of this room that has a section with a ``type``. There is no list."""

import importlib
import pkgutil
import typing
from collections.abc import Iterator, Mapping
from functools import cached_property

from ingestd import sinks
from ingestd.sinks.settings import SinkConfigBase


def type_of(section: type[SinkConfigBase]) -> str:
    """``webhook``; empty for what several sections have in common."""
    field = section.model_fields.get("type")
    return typing.get_args(field.annotation)[0] if field else ""


def _sections() -> Iterator[type[SinkConfigBase]]:
    for found in pkgutil.iter_modules(sinks.__path__):
        yield from _sections_of(found.name)


def _sections_of(file: str) -> Iterator[type[SinkConfigBase]]:
    module = importlib.import_module(f"{sinks.__name__}.{file}")
    own = [one for one in vars(module).values() if getattr(one, "__module__", "") == module.__name__]
    yield from (one for one in own if isinstance(one, type) and issubclass(one, SinkConfigBase))


class _SinkTypes(Mapping[str, type[SinkConfigBase]]):
    """Imported when asked for: most configurations name one or two of them."""

    def __init__(self) -> None:
        self._named: dict[str, type[SinkConfigBase]] = {}

    @cached_property
    def _found(self) -> dict[str, type[SinkConfigBase]]:
        return {kind: section for section in _sections() if (kind := type_of(section))}

    def __getitem__(self, kind: str) -> type[SinkConfigBase]:
        """Most files are called as the type of their sink: then the others are not imported for it."""
        if kind not in self._named:
            self._named[kind] = self._of_file(kind) or self._found[kind]
        return self._named[kind]

    def _of_file(self, kind: str) -> type[SinkConfigBase] | None:
        is_there = any(found.name == kind for found in pkgutil.iter_modules(sinks.__path__))
        return next((one for one in _sections_of(kind) if type_of(one) == kind), None) if is_there else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


SINK_TYPES = _SinkTypes()
"""By ``type`` the sections of the sinks."""
