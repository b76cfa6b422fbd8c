"""The Notifications API of the sandbox, held to the limits that Genesys documents."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.server import Running, Sandbox

pytestmark = pytest.mark.anyio
CHANNELS = "/api/v2/notifications/channels"
Call = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Running]:
    async with Sandbox(SandboxOptions(heartbeat_s=0.02)).serve() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def call(sandbox: Running, http: aiohttp.ClientSession) -> Call:
    form, login = {"grant_type": "client_credentials"}, {"Authorization": "Basic c2FuZGJveDpzYW5kYm94"}
    async with http.post(sandbox.token_url, data=form, headers=login) as answer:
        bearer = {"Authorization": f"Bearer {(await answer.json())['access_token']}"}

    async def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with http.request(method, sandbox.url + path, json=body, headers=bearer) as answer:
            return answer.status, await answer.json() if await answer.read() else None

    return ask


async def test_subscriptions_are_put_added_listed_and_ended(call: Call) -> None:
    _, made = await call("POST", CHANNELS)
    path = f"{CHANNELS}/{made['id']}/subscriptions"
    a, b, many = {"id": "v2.users.a.presence"}, {"id": "v2.users.b.presence"}, range(999)
    assert (await call("PUT", path, [a]))[1]["entities"] == [{**a, "state": "Permitted"}]
    assert [one["id"] for one in (await call("POST", path, [b]))[1]["entities"]] == [a["id"], b["id"]]
    assert len((await call("GET", path))[1]["entities"]) == 2
    status, told = await call("POST", path, [{"id": f"v2.users.{n}.presence"} for n in many])
    assert (status, told["code"]) == (400, "notifications.max.topics")
    assert (await call("PUT", path, [{"id": f"v2.users.{n}.presence"} for n in many]))[0] == 200
    assert (await call("PUT", path, [{"id": "users"}]))[1]["code"] == "notifications.invalid.topic"
    assert (await call("PUT", path, {"id": "v2.a.b"}))[0] == 400
    assert (await call("DELETE", path))[0] == 200
    assert (await call("GET", path))[1]["entities"] == []
    assert (await call("GET", f"{CHANNELS}/none/subscriptions"))[0] == 404
    _, topics = await call("GET", "/api/v2/notifications/availabletopics")
    assert "v2.users.{id}.presence" in {one["id"] for one in topics["entities"]}


async def test_a_client_has_twenty_channels_and_one_more_ends_the_oldest_that_nobody_hears(
    call: Call, http: aiohttp.ClientSession
) -> None:
    made = [(await call("POST", CHANNELS))[1] for _ in range(20)]
    async with http.ws_connect(made[0]["connectUri"]) as socket:
        await call("POST", CHANNELS)
        listed = [one["id"] for one in (await call("GET", CHANNELS))[1]["entities"]]
        assert len(listed) == 20
        assert (made[0]["id"] in listed, made[1]["id"] in listed) == (True, False)
        assert (await socket.receive_json())["eventBody"] == {"message": "WebSocket Heartbeat"}
        await socket.send_json({"message": "ping"})
        while (await socket.receive_json())["eventBody"] != {"message": "pong"}:
            pass
        async with http.ws_connect(made[0]["connectUri"]):
            while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:  # a second one ends the first
                pass
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await http.ws_connect(made[1]["connectUri"])


async def test_nobody_makes_channels_without_a_token(sandbox: Running, http: aiohttp.ClientSession) -> None:
    async with http.post(sandbox.url + CHANNELS) as answer:
        assert answer.status == 401
