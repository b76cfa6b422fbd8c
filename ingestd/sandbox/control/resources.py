"""What exists in the control plane: resources in memory, bounded, and when they can be seen.

One ``Resources`` for each kind; tests read it as ``sandbox.control.targets`` and so on.
"""

import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ingestd.core.clock import Clock
from ingestd.core.units import rfc3339
from ingestd.sandbox.control.errors import conflict, missing, over_limit
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.exchange import Exchange


@dataclass(slots=True)
class Resource:
    """``content``: as answers show it. ``secrets``: taken, and in no answer. ``since``: when what it waits
    for began (monotonic), and ``polls`` how often was asked since. ``token``: a target's own, once it
    has logged in at its receiver. ``versions``: as they were shown, where the kind keeps them."""

    id: str
    number: int
    content: dict[str, Any]
    created: str
    modified: str
    visible_at: float
    hidden_reads: int
    since: float
    secrets: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    status: str = ""
    error: str | None = None
    polls: int = 0
    probed: int | None = None
    contested: bool = False
    gone: bool = False
    token: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    event_types: dict[str, str] = field(default_factory=dict)
    versions: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.content.get("name", ""))

    @property
    def identity(self) -> bytes:
        """Whom faults strike: a name, so that the same order strikes the same resource in every run."""
        return self.name.encode("utf-8", "replace")


class Resources:
    """Those of one kind, oldest first. ``what``: its word in answers; ``limit``: how many there may be."""

    def __init__(
        self, what: str, path: str, clock: Clock, options: ControlOptions, *, limit: int | None = None
    ) -> None:
        self.what = what
        self.path = path
        self._clock = clock
        self._options = options
        self._limit = min(options.max_resources, limit or options.max_resources)
        self._by_id: OrderedDict[str, Resource] = OrderedDict()
        self._number = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._by_id.values()))

    def __getitem__(self, id_: str) -> Resource:
        return self._by_id[id_]

    def named(self, name: str) -> list[Resource]:
        """All of that name: names are not unique."""
        return [resource for resource in self if resource.name == name]

    def add(self, exchange: Exchange, content: dict[str, Any], *, status: str = "") -> Resource:
        """Raises Refused where there are too many already."""
        if len(self._by_id) >= self._limit:
            key = f"{self.what.replace(' ', '.')}.max"
            raise over_limit(
                exchange, f"{self.what}s", key=key, namespace="event.orchestration", value=self._limit
            )
        now = self._clock.monotonic()
        self._number += 1
        resource = Resource(
            id=str(uuid.uuid4()),
            number=self._number,
            content=content,
            created=self.timestamp(),
            modified=self.timestamp(),
            visible_at=now + self._options.hidden_s,
            hidden_reads=self._options.hidden_reads,
            since=now,
            status=status,
        )
        if fault := exchange.faults.strikes("created", resource.identity):
            resource.visible_at = max(resource.visible_at, now + fault.delay_s)
        self._by_id[resource.id] = resource
        return resource

    def find(self, exchange: Exchange, id_: str | None = None) -> Resource:
        """Raises Refused: 404 for one that is unknown, or not yet visible. Counts as a read of it."""
        id_ = exchange.params["id"] if id_ is None else id_
        resource = self._by_id.get(id_)
        if resource is None or not self._seen(resource):
            raise missing(exchange, self.what, id_)
        return resource

    def visible(self, wanted: Callable[[Resource], bool] = lambda _: True) -> list[Resource]:
        """All that a list shows now. Counts as a read of each that is still hidden."""
        return [resource for resource in self if self._seen(resource) and wanted(resource)]

    def remove(self, resource: Resource) -> None:
        resource.gone = True
        self._by_id.pop(resource.id, None)

    def clear(self) -> None:
        for resource in self:
            self.remove(resource)

    def touch(self, resource: Resource, content: Mapping[str, Any]) -> None:
        """It is changed to ``content``."""
        resource.content = dict(content)
        resource.modified = self.timestamp()

    def check_version(self, exchange: Exchange, resource: Resource, sent: int) -> None:
        """Raises Refused for another version than the current one, which then counts up.

        By fault, once for each resource: somebody else changed it a moment ago.
        """
        if not resource.contested and exchange.faults.strikes("version", resource.identity):
            resource.contested = True
            resource.version += 1
        if sent != resource.version:
            raise conflict(exchange, sent, resource.version, as_400=self._options.conflict_as_400)
        resource.version += 1

    def restart(self, resource: Resource, status: str) -> None:
        """It waits again, from now."""
        resource.status, resource.error = status, None
        resource.since, resource.polls, resource.probed = self._clock.monotonic(), 0, None

    def shown(self, resource: Resource) -> dict[str, Any]:
        """What all kinds have in common in an answer."""
        return {
            "id": resource.id,
            **resource.content,
            "dateCreated": resource.created,
            "dateModified": resource.modified,
            "selfUri": f"{self.path}/{resource.id}",
        }

    def timestamp(self) -> str:
        return rfc3339(self._clock.wall(), "milliseconds")

    def _seen(self, resource: Resource) -> bool:
        if resource.hidden_reads > 0:
            resource.hidden_reads -= 1
            return False
        return self._clock.monotonic() >= resource.visible_at
