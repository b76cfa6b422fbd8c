"""The sandbox as an HTTP server: its routes, its door, its start and stop.

Called by ``ingestd sandbox``, by ``replay --sandbox``, by the demo and by tests.
"""

# isort: split
from ingestd.transport import late_authorities as late_authorities  # before aiohttp

# isort: split
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate

from aiohttp import ClientPayloadError, web

from ingestd.core.clock import Clock, SystemClock
from ingestd.core.errors import UserError
from ingestd.sandbox import contract, inspection
from ingestd.sandbox.apis.ingest import SandboxApi, SandboxOptions, ordered_reply
from ingestd.sandbox.apis.notifications import SOCKET_PATH
from ingestd.sandbox.contract import Reply, RequestRefused
from ingestd.sandbox.exchange import Exchange, ExchangeHandler
from ingestd.sandbox.faults import GARBAGE, NOTHING_ORDERED, Fault, FaultPlan, Faults, Rule
from ingestd.sandbox.inbox import OTHER, Inbox
from ingestd.sandbox.remote_apis import ApiRoute, RemoteApis
from ingestd.sandbox.stats import NO_ANSWER, PathStats, Stats

INGEST_PATH = "/api/v2/events/ingest"
TOKENS_ME = "/api/v2/tokens/me"
TOKEN_PATHS = ("/oauth/token", "/login/oauth2/token")

_MIN_BODY_LIMIT_BYTES = 2**20
_SHUTDOWN_S = 2.0

SandboxHandler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Running:
    """A sandbox that serves. ``url`` has no path; ``token_url`` is the token endpoint in full."""

    url: str
    token_url: str
    sandbox: "Sandbox"


class Sandbox:
    """A local stand-in for the event APIs. Its state outlives ``serve``, so that stats can be read after it.

    Raises UserError for options that make no sense.
    """

    def __init__(self, options: SandboxOptions | None = None, *, clock: Clock | None = None) -> None:
        self.options = options or SandboxOptions()
        self._clock = clock or SystemClock()
        self.api = SandboxApi(self.options, self._clock)
        self.remote = RemoteApis(self.options, self.api.gate, self.api.item_faults, self._clock)
        self.control = self.remote.control
        self.notifications = self.remote.notifications
        self._routes = [
            ApiRoute("POST", INGEST_PATH, self.api.ingest),
            *(ApiRoute("POST", path, self.api.issue_token) for path in TOKEN_PATHS),
            *(
                ApiRoute(method, TOKENS_ME, self.api.describe_token, label=f"{method} {TOKENS_ME}")
                for method in ("HEAD", "GET", "DELETE")
            ),
            *self.remote.routes(),
        ]
        self.set_faults(self.options.faults, self.options.rules)

    @asynccontextmanager
    async def serve(
        self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[Running]:
        """Serve while the context is open; port 0 takes any that is free.

        Raises UserError where the address cannot be listened on. At the end, open requests get two
        seconds to finish.
        """
        # Not decompressed: a body says itself how large it is, and nothing grows in here.
        runner = web.AppRunner(
            self._app(), access_log=None, auto_decompress=False, shutdown_timeout=_SHUTDOWN_S
        )
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port, ssl_context=tls).start()
            except (OSError, OverflowError) as reason:
                why = getattr(reason, "strerror", None) or reason
                raise UserError(f"cannot listen on {host}:{port}: {why}") from None
            scheme, shown = "https" if tls else "http", f"[{host}]" if ":" in host else host
            url = f"{scheme}://{shown}:{runner.addresses[0][1]}"
            async with self.control.delivery.run():
                yield Running(url, url + TOKEN_PATHS[0], self)
        finally:
            await runner.cleanup()

    def stats(self) -> Stats:
        counts, accepted = self.api.counts, self.api.accepted
        return Stats(
            requests=counts.requests,
            by_status=dict(sorted(counts.by_status.items())),
            events=accepted.count,
            distinct=accepted.distinct,
            duplicates=accepted.duplicates,
            distinct_complete=accepted.counted_all,
            batches=accepted.batches,
            events_kept=len(accepted.kept),
            kept_bytes=accepted.kept_bytes,
            kept_complete=len(accepted.kept) == accepted.count,
            keys=len(self.api.keys),
            replays=counts.replays,
            faults=dict(sorted(counts.faults.items())),
            token_requests=counts.token_requests,
            tokens_issued=self.api.tokens.issued,
            max_concurrent=counts.max_concurrent,
            largest_body_bytes=counts.largest_body_bytes,
            paths={path: self._path_stats(path, inbox) for path, inbox in self.api.inboxes},
        )

    def _path_stats(self, path: str, inbox: Inbox) -> PathStats:
        if path != INGEST_PATH:
            return inbox.stats()
        accepted = self.api.accepted  # by exact bytes, without the price of an inbox
        return replace(
            inbox.stats(),
            events=accepted.count,
            distinct=accepted.distinct,
            duplicates=accepted.duplicates,
            distinct_complete=accepted.counted_all,
            repeated=self.api.counts.replays,
            events_kept=len(accepted.kept),
        )

    def kept(self, path: str = INGEST_PATH) -> Sequence[bytes]:
        """The first events that ``path`` took, as they came; ``paths`` of the stats has the paths."""
        return self.api.accepted.kept if path == INGEST_PATH else self.api.inboxes.kept(path)

    def reset(self) -> None:
        """Forget events, keys and counts, and start faults and script afresh. Tokens stay good."""
        self.api.reset()
        self.remote.reset()
        self.set_faults(self._faults.faults, self._faults.rules)

    def set_faults(self, faults: Sequence[Fault], rules: Sequence[Rule]) -> None:
        """Replace what goes wrong; the script counts its requests from now."""
        self._faults = Faults(faults, rules, seed=self.options.seed, struck=self.api.counts.faults)

    def _app(self) -> web.Application:
        # The control endpoints must be able to take a script where batches are kept small.
        limit = max(self.options.max_body_bytes, _MIN_BODY_LIMIT_BYTES)
        app = web.Application(client_max_size=limit)
        for route in self._routes:
            door = self._door(route.endpoint, label=route.label)
            app.router.add_route(route.method, route.pattern, door)
        app.router.add_routes(inspection.routes(self))
        app.router.add_get(SOCKET_PATH, self.remote.notifications.stream)
        app.router.add_route("*", "/{path:.*}", self._door(self._not_there, label=OTHER))
        return app

    def _door(self, endpoint: ExchangeHandler, *, label: str | None) -> SandboxHandler:
        """What every request passes: it is counted, read, and meets the fault that it is due.

        ``label``: its path in stats and scripts; None: as it is, after the method if that is not POST.
        """

        async def pass_through(request: web.Request) -> web.Response:
            counts, path = self.api.counts, label or request.path
            if label is None and request.method != "POST":
                path = f"{request.method} {path}"
            is_token, inbox = path in TOKEN_PATHS, self.api.inboxes.of(path)
            counts.concurrent += 1
            counts.max_concurrent = max(counts.max_concurrent, counts.concurrent)
            order = self._faults.order_for(path, is_token=is_token) or NOTHING_ORDERED
            if order is not NOTHING_ORDERED:
                counts.faults[order.kind] += 1
            context = str(uuid.uuid4())
            try:
                response = await self._answer(endpoint, request, order, inbox, context=context)
            finally:
                counts.concurrent -= 1
            status = NO_ANSWER if response is None else str(response.status)
            inbox.requests += 1
            inbox.by_status[status] += 1
            if is_token:
                counts.token_requests += 1
            else:
                counts.requests += 1
                counts.by_status[status] += 1
            if response is None:
                if request.transport is not None:
                    request.transport.close()
                return web.Response()  # the server wants one; it reaches nobody
            response.headers["ININ-Correlation-Id"] = context
            if order.skew_s:
                response.headers["Date"] = formatdate(self._clock.wall() + order.skew_s, usegmt=True)
            return response

        return pass_through

    async def _answer(
        self, endpoint: ExchangeHandler, request: web.Request, order: FaultPlan, inbox: Inbox, *, context: str
    ) -> web.Response | None:
        """None: the connection ends here, by order or because the client broke off."""
        try:
            body = await request.read()
        except (ConnectionError, ClientPayloadError):
            return None
        except web.HTTPRequestEntityTooLarge:
            return _response(
                contract.error(413, "request.entity.too.large", "the body is too large", context)
            )
        self.api.counts.largest_body_bytes = max(self.api.counts.largest_body_bytes, len(body))
        exchange = Exchange(
            request.method,
            request.path,
            request.headers,
            request.content_type,
            body,
            context,
            order,
            request.match_info,
            self._faults,
            inbox,
            request.query,
            f"{request.scheme}://{request.host}",
        )
        if order.take:
            try:
                reply = await endpoint(exchange)
            except RequestRefused as refused:
                reply = refused.reply
        else:
            await self.api.gate.wait(order)
            reply = ordered_reply(order, context)
        if order.cut:
            return None
        answer = order.answer
        if answer is None or (answer is GARBAGE and not 200 <= reply.status < 300):
            # A receiver that takes any 2xx, as webhooks do, must not miss a refusal over it.
            return _response(reply)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body.encode())

    async def _not_there(self, exchange: Exchange) -> Reply:
        allowed = [route.method for route in self._routes if route.matches(exchange.path)]
        if allowed:
            message = f"only {' and '.join(allowed)} is allowed here"
            reply = exchange.error(405, "method.not.allowed", message)
            return replace(reply, headers={"Allow": ", ".join(allowed)})
        return exchange.error(404, "not.found", "there is no such path in the sandbox")


def _response(reply: Reply) -> web.Response:
    return web.Response(
        status=reply.status, body=reply.body, headers=reply.headers, content_type=reply.content_type
    )
