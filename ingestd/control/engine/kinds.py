"""The kinds of resources by name, each imported when it is first asked for. Used by all of control."""

from collections.abc import Iterator, Mapping
from importlib import import_module

from ingestd.control.engine.resource import ResourceKind

_CLASSES = {  # module below ``control`` and class; those that others come after stand before them
    "integration": ("integration.integration", "Integration"),
    "webhook": ("integration.integration", "WebhookKind"),
    "target": ("target.target", "Target"),
    "destination": ("destination.destination", "DestinationKind"),
    "subscription": ("subscription.subscription", "SubscriptionKind"),
    "trigger": ("trigger.trigger", "Trigger"),
    "scheduled_trigger": ("genesys.kinds", "ScheduledTrigger"),
    "presence_source": ("genesys.kinds", "PresenceSource"),
    "journey_schema": ("genesys.kinds", "JourneySchema"),
    "journey_configuration": ("genesys.kinds", "JourneyConfiguration"),
}


def command_of(kind: str) -> str:
    """Its command, as presence-sources."""
    return f"{kind.replace('_', '-')}s"


class _Kinds(Mapping[str, ResourceKind]):
    def __init__(self) -> None:
        self._made: dict[str, ResourceKind] = {}

    def __getitem__(self, name: str) -> ResourceKind:
        if name not in self._made:
            module, kind = _CLASSES[name]
            self._made[name] = getattr(import_module(f"ingestd.control.{module}"), kind)()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in _CLASSES

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


KINDS: Mapping[str, ResourceKind] = _Kinds()
