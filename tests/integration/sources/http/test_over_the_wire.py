import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from ingestd.httpd.request import ServerLimits
from ingestd.httpd.server import serve
from tests.integration.sources.http.support import EVENT, PRODUCERS, TOKENS, Scene
from tests.machine import patience

pytestmark = pytest.mark.anyio

BEARER = ("Authorization", f"Bearer {TOKENS[0]}")
JSON = ("Content-Type", "application/json")
BINARY = [("CE-SpecVersion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]


@pytest.fixture
def scene() -> Scene:
    return Scene(PRODUCERS, webhook_origins=("a.example",))


@pytest.fixture
async def client(scene: Scene) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serve(scene.endpoint, ServerLimits(), "127.0.0.1", 0) as server,
        httpx.AsyncClient(
            timeout=patience(30), base_url=f"http://127.0.0.1:{server.port}", trust_env=False, verify=False
        ) as found,
    ):
        yield found


async def test_events_get_through_in_every_mode(scene: Scene, client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield EVENT
        yield b"\r\n" + EVENT

    url = "/v1/events"
    lines = ("Content-Type", "application/x-ndjson")
    answers = [
        await client.post(url, content=EVENT, headers=[BEARER, JSON]),
        await client.post(url, content=chunks(), headers=[BEARER, lines]),
        await client.post(
            url, content=gzip.compress(EVENT), headers=[BEARER, JSON, ("Content-Encoding", "gzip")]
        ),
        await client.post(url, content=b"[1]", headers=[BEARER, JSON, *BINARY]),
    ]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert [answer.json()["accepted"] for answer in answers] == [1, 2, 1, 1]
    assert scene.desk.events[:4] == [EVENT] * 4
    assert scene.desk.events[4].endswith(b'"data":[1]}')
    assert {submission.producer for submission in scene.desk.submissions} == {"web"}


async def test_headers_that_came_twice_are_told_apart_from_lists(client: httpx.AsyncClient) -> None:
    twice = await client.post("/v1/events", headers=[BEARER, *BINARY, ("ce-id", "2")])
    once = await client.post("/v1/events", headers=[BEARER, *BINARY, ("ce-subject", "1, 2")])
    assert (twice.status_code, once.status_code) == (400, 202)
    again = await client.post("/v1/events", content=EVENT, headers=[BEARER, BEARER, JSON])
    assert again.status_code == 401


async def test_refusals_have_their_headers(client: httpx.AsyncClient) -> None:
    stranger = await client.post("/v1/events", content=EVENT, headers=[JSON])
    assert stranger.status_code == 401
    assert stranger.headers["www-authenticate"] == 'Bearer realm="ingestd"'
    assert stranger.headers["content-type"] == "application/problem+json"
    wrong = await client.delete("/v1/events")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST, OPTIONS")
    format_ = await client.post("/v1/events", content=b"<p>", headers=[BEARER, ("Content-Type", "text/html")])
    assert format_.status_code == 415
    assert "application/json" in format_.headers["accept-post"]


async def test_the_handshake_works_for_whoever_has_no_token_yet(client: httpx.AsyncClient) -> None:
    answer = await client.options("/v1/events", headers={"WebHook-Request-Origin": "a.example"})
    assert (answer.status_code, answer.headers["webhook-allowed-origin"]) == (200, "a.example")
