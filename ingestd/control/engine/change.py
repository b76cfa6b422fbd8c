"""One step of a plan: what is done to which resource, and why. Made by ``plan.py``, done by ``apply.py``."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ingestd.control.engine.compare import Difference, dotted, masked
from ingestd.control.engine.resource import RemoteResource, ResourceAddress, Wanted


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"  # deleted and created: a field differs that cannot be changed
    RESUME = "resume"  # all is as wanted, but what was begun has not come to its end
    ADOPT = "adopt"  # there, as wanted, and not ours before: nothing is sent
    REMEMBER = "remember"  # ours, as wanted; only what is remembered of it here changes
    DELETE = "delete"
    REFUSED = "refused"  # cannot be done, ``why`` says it
    NOTHING = "nothing"


QUIET = frozenset({Action.NOTHING, Action.ADOPT})
"""With these alone there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Change:
    """``wanted``: None for what is deleted; ``found``: None for what is created. ``secrets``: dotted paths of
    those that are sent. ``ours``: made by an apply. ``needs``: changes that have to have succeeded."""

    action: Action
    address: ResourceAddress
    key: str
    wanted: Wanted | None = None
    found: RemoteResource | None = None
    differences: tuple[Difference, ...] = ()
    secrets: tuple[str, ...] = ()
    why: str = ""
    ours: bool = False
    needs: frozenset[ResourceAddress] = frozenset()

    @property
    def label(self) -> str:
        return ".".join(self.address)

    def as_json(self) -> dict[str, Any]:
        """For machines and for plan files; secrets masked."""
        return {
            "action": self.action.value,
            "kind": self.address[0],
            "name": self.address[1],
            "key": self.key,
            "id": self.found.id if self.found else None,
            "fields": [
                {
                    "path": dotted(one.path),
                    "before": masked(one.path, one.before),
                    "after": masked(one.path, one.after),
                }
                for one in self.differences
            ],
            "secrets": list(self.secrets),
            "why": self.why,
            "needs": sorted(".".join(address) for address in self.needs),
        }

    def identity(self) -> Mapping[str, Any]:
        """All that decides what carrying it out does: a plan file is bound to it."""
        found, wanted = self.found, self.wanted
        return {
            "action": self.action.value,
            "address": self.address,
            "found": found and [found.id, found.key, found.fields, found.state, found.settled],
            "wanted": wanted
            and [
                wanted.key,
                wanted.fields,
                {path: reference.text for path, reference in wanted.secrets.items()},
                sorted(wanted.after),
                wanted.protected,
            ],
            "secrets": self.secrets,
        }
