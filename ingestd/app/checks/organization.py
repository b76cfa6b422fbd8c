"""What only an organization of Genesys Cloud can tell. Asked for ``ingestd doctor --online``; sends no event
and changes nothing.

Paths, models and permissions: the SDK (Python 269.0.0, read on 2026-11-28). ``organizations/me``,
``tokens/me`` and the default limits need no permission, an organization's own limits need
``limits:organization:view``.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.app.checks.sinks import find_targets
from ingestd.config import Login, Settings
from ingestd.core.answer import Answer
from ingestd.sinks.answer_body import safe_text
from ingestd.sinks.journey_events import JourneyEventsConfig
from ingestd.sinks.settings import EmptyRequest, HttpSinkConfig
from ingestd.transport.client import MAX_BODY_BYTES, Client

TOKENS_ME = "/api/v2/tokens/me"
ORGANIZATION = "/api/v2/organizations/me"
LIMITS = "/api/v2/organizations/limits/namespaces/"
TOKEN_RATE = "client.credentials.token.rate.per.minute"  # noqa: S105 - the name of a limit
REQUEST_BYTES = "request.bytes.max"
"""In the namespace platform.api: requests a minute of one token, bytes of one request."""
_MAX_LISTED = 12
_WHERE = "Admin > Roles/Permissions, in a role of the OAuth client"


class Organization:
    """An API with a token. Each check that cannot be made is a finding that says why."""

    def __init__(self, client: Client, api: str, token: str) -> None:
        self._client = client
        self._api = api.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}

    async def request(self, method: str, path: str) -> Answer:
        return await self._client.request(method, self._api + path, headers=self._headers)

    async def check(self, settings: Settings, login: Login) -> AsyncIterator[Finding]:
        answer = await self.request("GET", ORGANIZATION)
        yield _describe_organization(answer)
        yield _describe_client(await self.request("GET", TOKENS_ME), answer)
        sinks = {
            name: section
            for name, section in settings.sinks.items()
            if isinstance(section, HttpSinkConfig) and section.auth_kind == "api"
        }
        for name, sink in find_targets(settings, login).items():
            if name in sinks and (request := sinks[name].empty_request):
                yield await self._check_permission(name, sink.url, request)
        spaces = ["platform.api"]
        if any(isinstance(section, JourneyEventsConfig) for section in sinks.values()):
            spaces.append("external.events.data.ingestion")
        for space in spaces:
            async for finding in self._check_limits(space, settings, sinks):
                yield finding

    async def _check_permission(self, name: str, url: str, request: EmptyRequest) -> Finding:
        """Posts no event: an API says 403 before it looks for some."""
        headers = {**self._headers, "Content-Type": "application/json"}
        answer = await self._client.post(url, request.body, headers)
        if answer.status in (200, 202, 400, 422) and (_is_json(answer) or not answer.body):
            return ok("permission", f"{name}: the client may send there ({request.permission})")
        summary = f"{name}: an empty request to {url} was answered {answer.status}"
        if answer.status == 403:
            return fail(
                "permission",
                f"{name}: the client may not send there: give it {request.permission} ({_WHERE})",
            )
        if answer.status == 404:
            return fail(
                "permission", f"{summary}: there is no such API or configuration in this organization"
            )
        if 200 <= answer.status < 400:
            return fail("permission", f"{summary} and no JSON: is this the API, or a sign-in page?")
        return warn(
            "permission", f"{summary}{_why(answer)}, so it is not certain that the client may send there"
        )

    async def _check_limits(
        self, space: str, settings: Settings, sinks: Mapping[str, HttpSinkConfig]
    ) -> AsyncIterator[Finding]:
        answer = await self.request("GET", LIMITS + space)
        if answer.status == 403:
            yield warn(
                "limits",
                f"{space}: those of the organization are not shown to this client; to see them give it"
                f" limits:organization:view ({_WHERE}). What follows are the platform's defaults",
            )
            answer = await self.request("GET", f"{LIMITS}{space}/defaults")
        limits = _limits_in(answer)
        if not limits:
            yield warn("limits", f"{space}: not known: {answer.status}{_why(answer)} from {LIMITS}{space}")
            return
        listed = [f"{safe_text(key, 80)} {value}" for key, value in sorted(limits.items())]
        more = f", and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
        yield ok("limits", f"{space}: {', '.join(listed[:_MAX_LISTED])}{more}")
        if rate := limits.get(TOKEN_RATE):
            for finding in check_rate(sinks, rate):
                yield finding
        most = limits.get(REQUEST_BYTES, 0)
        for name, section in sinks.items():
            size = section.max_bytes or settings.batch.max_bytes
            if 0 < most < size:
                yield warn(
                    "limits",
                    f"{name}: a request may have {size} bytes, and the organization takes {most}:"
                    f" set sinks.{name}.max_bytes",
                )


def check_rate(sinks: Mapping[str, HttpSinkConfig], allowed: int) -> Iterator[Finding]:
    """Sinks with the login of [api] share a token, and its requests a minute."""
    rates = {name: section.requests_per_minute for name, section in sinks.items()}
    together = sum(rates.values())
    if together > allowed:
        listed = ", ".join(f"{name} {rate}" for name, rate in rates.items())
        yield warn(
            "rate",
            f"one token may make {allowed} requests a minute, and sinks that share it are set to {together}"
            f" together ({listed}): lower requests_per_minute, so that none waits for 429s of another",
        )
    elif rates:
        yield ok(
            "rate", f"{together or 'as the API says'} of {allowed} requests a minute that a token may make"
        )


def _describe_organization(answer: Answer) -> Finding:
    found = answer.json_object(max_bytes=MAX_BODY_BYTES)
    if answer.status != 200 or not found.get("id"):
        summary = f"{ORGANIZATION} answers {answer.status}{_why(answer)}"
        return warn(
            "organization", f"{summary}: is this Genesys Cloud's API? It is not known which one this is"
        )
    label = f"{_text(found, 'name')}, id {_text(found, 'id')}"
    state = _text(found, "state") or "active"
    if state != "active":
        return fail("organization", f"{label} is {state}: its APIs take no events; ask Genesys, or its admin")
    return ok("organization", label)


def _describe_client(answer: Answer, organization: Answer) -> Finding:
    found, own = (one.json_object(max_bytes=MAX_BODY_BYTES) for one in (answer, organization))
    client, of = found.get("OAuthClient") or {}, found.get("organization") or {}
    if answer.status != 200 or not (isinstance(client, dict) and isinstance(of, dict) and client):
        return warn(
            "client", f"{TOKENS_ME} answers {answer.status}{_why(answer)}: it is not known whose token it is"
        )
    label = f"{_text(client, 'name')}, id {_text(client, 'id')}"
    if own.get("id") and of.get("id") not in (None, own["id"]):
        return warn("client", f"{label} is of the organization {_text(of, 'name')}, and acts in another one")
    scopes = found.get("authorizedScope")
    listed = isinstance(scopes, list) and ", ".join(safe_text(str(one), 60) for one in scopes[:_MAX_LISTED])
    return ok("client", f"{label}, scopes {listed}" if listed else f"{label}; its roles say what it may do")


def _limits_in(answer: Answer) -> dict[str, int]:
    """Of a ``LimitsEntityListing``; empty for anything else."""
    entities = answer.json_object(max_bytes=MAX_BODY_BYTES).get("entities")
    if answer.status != 200 or not isinstance(entities, list):
        return {}
    found = {}
    for one in entities:
        if isinstance(one, dict) and isinstance(one.get("key"), str) and type(one.get("value")) is int:
            found[one["key"]] = one["value"]
    return found


def _is_json(answer: Answer) -> bool:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json")


def _why(answer: Answer) -> str:
    if not answer.status:
        return f" ({answer.error})"
    message = answer.json_object(max_bytes=MAX_BODY_BYTES).get("message")
    return f" ({safe_text(message, 200)})" if isinstance(message, str) else ""


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    return safe_text(value, 100) if isinstance(value, str) else ""
