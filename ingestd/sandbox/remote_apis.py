"""All remote APIs besides ``/api/v2/events/ingest``, and where they are. Built by ``sandbox/server.py``."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ingestd.core.clock import Clock
from ingestd.sandbox.access import AccessControl
from ingestd.sandbox.apis.event_bridge import EventBridge
from ingestd.sandbox.apis.genesys import BatchEvents
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.apis.journey import JourneyEvents
from ingestd.sandbox.apis.notifications import Notifications
from ingestd.sandbox.apis.organization import LIMITS_PATH, OrganizationApi
from ingestd.sandbox.apis.organization import PATH as ORGANIZATION_PATH
from ingestd.sandbox.apis.webhooks import Webhooks
from ingestd.sandbox.control.plane import ControlPlane
from ingestd.sandbox.exchange import ExchangeHandler
from ingestd.sandbox.item_faults import ItemFaults
from ingestd.schemas.genesys_models import EVENT_APIS, event_api

EVENT_BRIDGE_PATH = "/api/v2/eventbridge/events"
JOURNEY_PATH = "/api/v2/journey/externalevents/configurations/{id}/events"
WEBHOOK_PATH = "/api/v2/integrations/webhooks/{token}/events"
HOOK_PATH = "/hooks/{name}"


class ApiRoute(NamedTuple):
    """``label``: the path in stats and scripts; None: as it is asked for."""

    method: str
    path: str
    endpoint: ExchangeHandler
    label: str | None = None

    @property
    def pattern(self) -> str:
        """As aiohttp wants it; its own idea of a variable part has no braces, which event types have."""
        return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", self.path)

    def matches(self, path: str) -> bool:
        return re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(self.path)), path) is not None


class RemoteApis:
    """One of each; their state ends with ``reset``."""

    def __init__(
        self, options: SandboxOptions, gate: AccessControl, item_faults: ItemFaults, clock: Clock
    ) -> None:
        self.control = ControlPlane(gate, clock, options.control, max_body_bytes=options.platform_body_bytes)
        self.notifications = Notifications(
            gate, clock, max_body_bytes=options.platform_body_bytes, heartbeat_s=options.heartbeat_s
        )
        self._event_bridge = EventBridge(
            gate,
            item_faults,
            clock,
            max_body_bytes=options.max_body_bytes,
            delivered_after_s=options.delivered_after_s,
            delivered_at_question=options.delivered_at_question,
            on_accepted=self.control.deliver,
        )
        self._batch_events = [
            BatchEvents(
                event_api(name),
                gate,
                item_faults,
                max_body_bytes=options.platform_body_bytes,
                max_events=options.max_batch_events,
                keeps_states=options.communication_states,
            )
            for name in EVENT_APIS
        ]
        self._journey = JourneyEvents(
            gate,
            item_faults,
            max_body_bytes=options.platform_body_bytes,
            configurations=options.journey_configurations,
        )
        self._organization = OrganizationApi(gate, options.rate_limit)
        self._webhooks = Webhooks(
            gate,
            clock,
            tokens=options.webhook_tokens,
            is_token=self.control.is_webhook,
            secrets=options.webhook_secrets,
            max_body_bytes=options.platform_body_bytes,
            handshake_required=options.handshake_required,
            rate_per_minute=options.hook_rate_per_minute,
            hook_status=options.hook_status,
        )

    def reset(self) -> None:
        self.control.reset()
        self.notifications.reset()
        self._event_bridge.reset()
        for api in self._batch_events:
            api.reset()
        self._webhooks.reset()

    def routes(self) -> Sequence[ApiRoute]:
        one_event = EVENT_BRIDGE_PATH + "/{id}"
        hooks = self._webhooks
        return [
            ApiRoute("POST", EVENT_BRIDGE_PATH, self._event_bridge.publish),
            ApiRoute("GET", one_event, self._event_bridge.describe, label=one_event),
            *(ApiRoute("POST", api.kind.path, api.publish) for api in self._batch_events),
            ApiRoute("POST", JOURNEY_PATH, self._journey.publish),
            # The token is a secret: it is no label.
            ApiRoute("POST", WEBHOOK_PATH, hooks.invoke, label=WEBHOOK_PATH),
            ApiRoute("OPTIONS", WEBHOOK_PATH, hooks.grant_webhook, label=f"OPTIONS {WEBHOOK_PATH}"),
            ApiRoute("GET", ORGANIZATION_PATH, self._organization.describe),
            ApiRoute("GET", LIMITS_PATH, self._organization.limits, label=f"GET {LIMITS_PATH}"),
            ApiRoute(
                "GET",
                f"{LIMITS_PATH}/defaults",
                self._organization.defaults,
                label=f"GET {LIMITS_PATH}/defaults",
            ),
            ApiRoute("POST", HOOK_PATH, hooks.take),
            ApiRoute("OPTIONS", HOOK_PATH, hooks.grant),
            *(
                ApiRoute(method, path, endpoint, label=path if method == "POST" else f"{method} {path}")
                for method, path, endpoint in [*self.control.routes(), *self.notifications.routes()]
            ),
        ]
