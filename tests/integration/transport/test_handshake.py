"""The web-hook handshake: nothing is posted before the receiver has said that it may be."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingestd.core.errors import UserError
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Client, Sender
from ingestd.transport.webhook_handshake import ASK_AGAIN_S, WebhookHandshake
from tests.each import each
from tests.integration.transport.support import FakeClock
from tests.machine import patience
from tests.receiver import Action, Cut, Hang, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

ORIGIN = "events.example.com"
GRANT = {"WebHook-Allowed-Origin": ORIGIN, "WebHook-Allowed-Rate": "120"}


@asynccontextmanager
async def asking(
    options: Callable[[], Action], post: Callable[[], Action] = Reply, **settings: Any
) -> AsyncIterator[tuple[Receiver, WebhookHandshake, FakeClock]]:
    def script(request: Request) -> Action:
        return options() if request.method == "OPTIONS" else post()

    before, clock = asyncio.all_tasks(), FakeClock()
    async with Receiver(script) as receiver, Client(timeout_s=patience(2)) as client:
        sender = Sender(client, NoAuth())
        handshaking = Asking(sender, client, origin=ORIGIN, clock=clock, **settings)
        yield receiver, handshaking, clock
        await handshaking.aclose()
    assert asyncio.all_tasks() == before


class Asking(WebhookHandshake):
    """``granted``: what it was told."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.granted: list[int | None] = []
        super().__init__(*arguments, **settings, on_allowed=self.granted.append)


def methods(receiver: Receiver) -> list[str]:
    return [request.method for request in receiver.requests]


async def test_it_asks_once_and_every_delivery_names_the_origin() -> None:
    async with asking(lambda: Reply(headers=GRANT), requests_per_minute=600) as (receiver, tested, _):
        url = receiver.url + "/hook?a=b"
        answers = await asyncio.gather(*(tested.send(url, b"x", {"X-A": "1"}) for _ in range(5)))
        assert [answer.status for answer, _ in answers] == [200] * 5
        assert tested.granted == [120]
    asked, *posted = receiver.requests
    assert (asked.method, asked.path, asked.body) == ("OPTIONS", "/hook?a=b", b"")
    assert asked.headers["webhook-request-origin"] == ORIGIN
    assert asked.headers["webhook-request-rate"] == "600"
    assert [request.headers["webhook-request-origin"] for request in posted] == [ORIGIN] * 5
    assert {request.headers["x-a"] for request in posted} == {"1"}


@each(
    ("allowed", "rate"),
    [
        ({"WebHook-Allowed-Origin": "*"}, 600),
        ({"WebHook-Allowed-Origin": "EVENTS.example.COM", "WebHook-Allowed-Rate": "*"}, None),
        ({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "-5"}, 600),
    ],
)
async def test_what_counts_as_a_grant(allowed: dict[str, str], rate: int | None) -> None:
    async with asking(lambda: Reply(204, allowed, b""), requests_per_minute=600) as (receiver, tested, _):
        assert (await tested.send(receiver.url, b"x", {}))[0].status == 200
        assert tested.granted == [rate]


@each(
    "reply",
    [
        Reply(),
        Reply(headers={"WebHook-Allowed-Origin": "other.example.com"}),
        Reply(headers={"WebHook-Allowed-Origin": ""}),
        Reply(405, GRANT),
        Reply(404),
        Reply(307, {"Location": "/there"} | GRANT),
    ],
    ids=lambda reply: f"{reply.status} {reply.headers}",
)
async def test_without_permission_nothing_is_posted_and_each_try_asks_again(reply: Reply) -> None:
    async with asking(lambda: reply) as (receiver, tested, _):
        for _ in range(2):
            answer, generation = await tested.send(receiver.url, b"x", {})
            assert (answer.status, generation) == (403, 0)
            assert f"does not let {ORIGIN} send" in answer.body.decode()
    assert methods(receiver) == ["OPTIONS"] * 2


@each("action", [Reply(503), Reply(429, {"Retry-After": "7"}), Cut()], ids=repr)
async def test_trouble_while_asking_is_trouble_and_no_refusal(action: Action) -> None:
    async with asking(lambda: action) as (receiver, tested, _):
        answer, _ = await tested.send(receiver.url, b"x", {})
        assert answer.status == (action.status if isinstance(action, Reply) else 0)
        assert answer.headers.get("retry-after") == ("7" if answer.status == 429 else None)
    assert methods(receiver) == ["OPTIONS"]


async def test_it_asks_again_after_a_day() -> None:
    async with asking(lambda: Reply(headers=GRANT)) as (receiver, tested, clock):
        await tested.send(receiver.url, b"1", {})
        clock.now += ASK_AGAIN_S - 1
        await tested.send(receiver.url, b"2", {})
        clock.now += 1
        await tested.send(receiver.url, b"3", {})
    assert methods(receiver) == ["OPTIONS", "POST", "POST", "OPTIONS", "POST"]


@each(("status", "again"), [(410, True), (403, True), (401, False), (503, False)])
async def test_it_asks_again_after_an_answer_that_looks_like_a_withdrawal(status: int, again: bool) -> None:
    async with asking(lambda: Reply(headers=GRANT), lambda: Reply(status)) as (receiver, tested, _):
        for _ in range(2):
            assert (await tested.send(receiver.url, b"x", {}))[0].status == status
    assert methods(receiver) == (["OPTIONS", "POST"] * 2 if again else ["OPTIONS", "POST", "POST"])


async def test_closing_ends_what_waits() -> None:
    async with asking(Hang) as (receiver, tested, _):
        waiting = asyncio.create_task(tested.send(receiver.url, b"x", {}))
        await receiver.until(lambda r: bool(r.requests))
        await tested.aclose()
        assert (await waiting)[0].status == 0


@each("origin", ["", "a b", "https://x.example", "x.example\r\n", "-x", "a" * 254])
async def test_an_origin_is_a_dns_name(origin: str) -> None:
    async with Client() as client:
        with pytest.raises(UserError, match="handshake_origin"):
            WebhookHandshake(Sender(client, NoAuth()), client, origin=origin, clock=FakeClock())
