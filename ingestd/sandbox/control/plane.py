"""The control plane of the sandbox: all its kinds of resources. Built by ``sandbox/server.py``."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

from ingestd.core.clock import Clock
from ingestd.sandbox.access import AccessControl, check_form
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.control.delivery import TargetDelivery
from ingestd.sandbox.control.destinations import Destinations
from ingestd.sandbox.control.integrations import Integrations
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.plain import plain_kinds
from ingestd.sandbox.control.resources import Resources
from ingestd.sandbox.control.route import ControlRoute
from ingestd.sandbox.control.subscriptions import Subscriptions
from ingestd.sandbox.control.targets import Targets
from ingestd.sandbox.control.triggers import Triggers
from ingestd.sandbox.exchange import Exchange


class _Kind(Protocol):
    all: Resources

    def routes(self) -> Sequence[ControlRoute]:
        """Its paths of the API."""
        ...


class ControlPlane:
    """``targets``, ``destinations`` …: what exists, for tests to read, and to change behind a client."""

    def __init__(
        self, gate: AccessControl, clock: Clock, options: ControlOptions, *, max_body_bytes: int
    ) -> None:
        self._gate = gate
        self._max_body_bytes = max_body_bytes
        self.delivery = TargetDelivery(clock)
        self._targets = Targets(clock, options, self.delivery)
        self._by_name: dict[str, _Kind] = {
            "targets": self._targets,
            "destinations": Destinations(clock, options),
            "subscriptions": Subscriptions(clock, options),
            "integrations": (integrations := Integrations(clock, options)),
            "triggers": Triggers(clock, options),
            **plain_kinds(clock, options),
        }
        self.targets: Resources = self._targets.all
        self.destinations: Resources = self._by_name["destinations"].all
        self.subscriptions: Resources = self._by_name["subscriptions"].all
        self.integrations: Resources = integrations.all
        self.is_webhook = integrations.is_webhook
        self.triggers: Resources = self._by_name["triggers"].all

    def reset(self) -> None:
        for _, resources in self._kinds():
            resources.clear()

    def deliver(self, exchange: Exchange, event: bytes, event_type: str) -> None:
        """A published event, to the targets that asked for it."""
        self._targets.deliver(exchange, event, event_type)

    def routes(self) -> Sequence[tuple[str, str, Callable[[Exchange], Awaitable[Reply]]]]:
        kinds = self._by_name.values()
        return [(route.method, route.path, self._guarded(route)) for kind in kinds for route in kind.routes()]

    def shown(self) -> dict[str, Any]:
        """All that exists, without credentials: of those, which were given. A look at it is no read."""
        return {
            kind: [
                {
                    **resources.shown(one),
                    "status": one.status,
                    "version": one.version,
                    "eventTypesSubscribed": sorted(one.event_types),
                    "secretsGiven": sorted(one.secrets),
                    "counts": dict(one.counts),
                }
                for one in resources
            ]
            for kind, resources in self._kinds()
        }

    def _kinds(self) -> Iterator[tuple[str, Resources]]:
        yield from ((name, kind.all) for name, kind in self._by_name.items())

    def _guarded(self, route: ControlRoute) -> Callable[[Exchange], Awaitable[Reply]]:
        """With login, pace and ordered waits; the answer itself is one step: nothing comes between."""

        async def handle(exchange: Exchange) -> Reply:
            takes_body = exchange.method in ("POST", "PUT", "PATCH")
            if takes_body and not (route.bodiless and not exchange.body):
                check_form(exchange, max_body_bytes=self._max_body_bytes)
            await self._gate.wait(exchange.order)
            return route.handle(exchange)

        async def endpoint(exchange: Exchange) -> Reply:
            return await self._gate.with_token(exchange, handle)

        return endpoint
