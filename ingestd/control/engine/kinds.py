"""The kinds of resources by name, each imported when it is first asked for. Used by all of control."""

from collections.abc import Iterator, Mapping
from importlib import import_module

from ingestd.control.engine.resource import ResourceKind

_CLASSES = {  # each in the module that is called like the kind
    "integration": "Integration",
    "target": "Target",
    "destination": "DestinationKind",
    "subscription": "SubscriptionKind",
    "trigger": "Trigger",
}


class _Kinds(Mapping[str, ResourceKind]):
    def __init__(self) -> None:
        self._made: dict[str, ResourceKind] = {}

    def __getitem__(self, name: str) -> ResourceKind:
        if name not in self._made:
            self._made[name] = getattr(import_module(f"ingestd.control.{name}.{name}"), _CLASSES[name])()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


KINDS: Mapping[str, ResourceKind] = _Kinds()
