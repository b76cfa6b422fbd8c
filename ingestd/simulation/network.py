"""Instead of sockets: what the receivers answer, and what goes wrong on the way to them and back."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from ingestd.core.answer import Octets
from ingestd.simulation.loop import VirtualClock
from ingestd.simulation.receivers import HTML, JSON, TOKEN_PATH, ApiReply, Receiver
from ingestd.transport.engine import Engine, Exchanged, Timeout
from ingestd.transport.network_errors import CutWhileSending, NoAnswer, Unsent
from ingestd.transport.target import RequestTarget

_REFUSALS = {"401": 401, "403": 403, "404": 404, "500": 500, "503": 503, "429": 429, "409 busy": 409}


def _early(fault: str, clock: VirtualClock, rng: random.Random) -> ApiReply | None:
    """Replys of an API that has not even looked."""
    if fault == "html":
        return ApiReply(200, HTML, ((b"Content-Type", b"text/html"),))
    if fault.endswith(" wait"):
        return ApiReply(int(fault[:3]), headers=(*JSON, (b"Retry-After", b"%d" % rng.choice((0, 1, 7, 40)))))
    if fault == "503 date":
        from email.utils import formatdate

        when = formatdate(clock.wall() + 5, usegmt=True).encode()
        return ApiReply(503, headers=(*JSON, (b"Retry-After", when)))
    if fault == "409 busy":
        return ApiReply(409, b'{"message":"a request with this key is still being processed"}')
    if fault in _REFUSALS:
        return ApiReply(_REFUSALS[fault], b'{"message":"not now"}')
    return None


_NOTICED_S = 5.0
"""After this nothing is sent to a sink that a person has parked."""


class Network(Engine):
    """Instead of sockets. ``receivers``: by the first label of the host."""

    def __init__(self, receivers: Mapping[str, Receiver], clock: VirtualClock, rng: random.Random) -> None:
        self._receivers = receivers
        self._virtual, self._rng = clock, rng
        self._max_body_bytes = 1024 * 1024
        self._on_the_way: dict[object, tuple[Receiver, str, bytes]] = {}
        self._down = False
        for receiver in receivers.values():
            receiver.tokens.clear()

    async def aclose(self) -> None:
        """Nothing is open."""

    def process_ended(self) -> None:
        """What was on its way arrives all the same, or not."""
        for receiver, key, body in list(self._on_the_way.values()):
            if self._rng.random() < 0.5:
                receiver.take(key, body, "none")
        self._down = True

    async def exchange(
        self,
        method: str,
        target: RequestTarget,
        headers: Mapping[str, str],
        body: Octets,
        *,
        timeout: Timeout,
    ) -> Exchanged:
        receiver = self._receivers[target.host.partition(".")[0]]
        if self._down:
            raise Unsent("the process has ended")
        if target.path == TOKEN_PATH:
            return await self._ask(receiver, lambda: self._log_in(receiver))
        known = not receiver.kind.login or self._is_known(receiver, headers.get("authorization", ""))
        if method == "GET":
            key = target.path.rpartition("/")[2]
            return await self._ask(receiver, lambda: receiver.status(key) if known else ApiReply(401))
        if receiver.parked_at is not None and self._virtual.monotonic() > receiver.parked_at + _NOTICED_S:
            receiver.trace.breach(f"{receiver.name} is parked, and gets requests")
        if receiver.at_once >= receiver.most_at_once:
            receiver.trace.breach(f"{receiver.name}: more than {receiver.most_at_once} requests at once")
        receiver.at_once += 1
        receiver.requests += 1
        try:
            async with self._virtual.timeout(timeout.total):
                return await self._exchange(receiver, headers["idempotency-key"], bytes(body), known)
        except TimeoutError:
            raise NoAnswer("no complete answer in time") from None
        finally:
            receiver.at_once -= 1

    def _log_in(self, receiver: Receiver) -> ApiReply:
        token, lifetime_s = f"t{len(receiver.tokens)}", self._rng.choice((5, 100, 3600))
        receiver.tokens[token] = self._virtual.monotonic() + lifetime_s
        grant = {"access_token": token, "token_type": "bearer", "expires_in": lifetime_s}
        return ApiReply(200, json.dumps(grant).encode())

    def _is_known(self, receiver: Receiver, authorization: str) -> bool:
        """A token is good until its time is over, or it is taken back."""
        token = authorization.removeprefix("Bearer ")
        if token not in receiver.tokens:
            receiver.trace.breach(f"{receiver.name} never gave the token {authorization!r}")
        if receiver.mood == "login":
            receiver.tokens[token] = 0.0
        return receiver.tokens.get(token, 0.0) > self._virtual.monotonic()

    async def _ask(self, receiver: Receiver, answer: Callable[[], ApiReply]) -> Exchanged:
        fault = receiver.fault()
        await self._virtual.sleep(self._rng.choice((0.001, 0.1)))
        if fault == "no connection":
            raise Unsent("cannot connect: Connection refused")
        if early := _early(fault, self._virtual, self._rng):
            return _exchanged(early)
        if fault in ("cut", "silent", "cut half"):
            raise NoAnswer("connection closed before an answer came")
        return _exchanged(answer())

    async def _exchange(self, receiver: Receiver, key: str, body: bytes, known: bool) -> Exchanged:
        rng, ticket = self._rng, object()
        fault = receiver.fault() if known else "401"
        if fault == "no connection":
            await self._virtual.sleep(rng.choice((0.001, 1.0)))
            raise Unsent("cannot connect: Connection refused")
        receiver.look(key, body)
        self._on_the_way[ticket] = receiver, key, body
        try:
            await self._virtual.sleep(receiver.slow_s * rng.random() + rng.choice((0.001, 0.02, 0.3)))
        finally:
            del self._on_the_way[ticket]
        if fault == "cut half":
            raise CutWhileSending("connection lost: before all of the request was sent")
        if fault == "silent":
            await asyncio.get_running_loop().create_future()
        if fault == "cut":
            raise NoAnswer("connection closed before an answer came")
        if early := _early(fault, self._virtual, rng):
            receiver.trace.note(f"{receiver.name} answers {key[:8]}: {fault}")
            return _exchanged(early)
        answer = receiver.take(key, body, fault)
        await self._virtual.sleep(rng.choice((0.0, 0.001, 0.05)))
        receiver.trace.note(f"{receiver.name} answers {key[:8]}: {answer.status} ({fault})")
        return await self._late(answer, fault)

    async def _late(self, answer: ApiReply, fault: str) -> Exchanged:
        if fault == "silent after":
            await asyncio.get_running_loop().create_future()
        if fault == "cut after":
            raise NoAnswer("connection closed before an answer came")
        if fault == "502 after":
            return _exchanged(ApiReply(502, b'{"message":"bad gateway"}'))
        if fault == "short answer":
            return replace(_exchanged(answer), body=answer.body[:3], truncated=True)
        if fault == "empty" and answer.body == b"{}":
            return _exchanged(ApiReply(200, b""))
        if fault == "202 unnamed" and answer.body == b"{}":
            return _exchanged(ApiReply(202, b'{"accepted":true}'))
        return _exchanged(answer)


def _exchanged(answer: ApiReply) -> Exchanged:
    return Exchanged(answer.status, answer.headers, answer.body, truncated=False)
