"""Events as they pass, for somebody who looks."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.event_api import event
from tests.machine import patience
from tests.process.admin.test_console import ANNA, BERT, CRM, Api, configured
from tests.process.cli.run_support import Serving, post, serve
from tests.process.cli.support import Place

pytestmark = pytest.mark.anyio


class Looking:
    """What came so far."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    async def read(self, answer: httpx.Response) -> None:
        async for line in answer.aiter_lines():
            self.lines.append(json.loads(line))
            self._news.set()

    async def until(self, count: int) -> list[dict[str, Any]]:
        while len(self.lines) < count:
            self._news.clear()
            async with asyncio.timeout(patience(60)):
                await self._news.wait()
        return self.lines


@asynccontextmanager
async def looking(serving: Serving, **query: str) -> AsyncIterator[Looking]:
    url, one = f"http://127.0.0.1:{serving.admin_port}/v1/tap", Looking()
    async with (
        httpx.AsyncClient(trust_env=False, verify=False, timeout=patience(60)) as client,
        client.stream("GET", url, params=query) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        reading = asyncio.create_task(one.read(answer))
        yield one
        reading.cancel()


async def test_each_event_is_shown_with_what_became_of_it_and_without_what_is_masked(place: Place) -> None:
    api, words = Api(), configured(place)
    with (place / "ingestd.toml").open("a") as file:
        file.write("[admin]\nredact = ['$.routingMetadata.queueId']\n")
    async with api.server, serve(place, api.server, *words) as serving:
        async with looking(serving) as everything, looking(serving, what="dead_lettered") as dead:
            bad = event(2, note="bad")
            body = [event(1, note="good"), bad, event(1, note="good"), b'{"a":1}']
            assert (await post(serving.ingest_port, body, token=CRM)).status == 202
            lines = await everything.until(6)
            found = sorted((one["what"], one["event"].get("interactionId")) for one in lines)
            assert found == [
                ("accepted", "i-000001"),
                ("accepted", "i-000002"),
                ("dead_lettered", "i-000002"),
                ("delivered", "i-000001"),
                ("duplicate", "i-000001"),
                ("rejected", None),
            ]
            delivered = next(one for one in lines if one["what"] == "delivered")
            assert (delivered["sink"], bool(delivered["batch"])) == ("ingest_api", True)
            assert {one["event"].get("routingMetadata", {}).get("queueId") for one in lines} == {"***", None}
            (only,) = await dead.until(1)
            assert "refused" in only["why"]
        # a viewer does not see it in a letter either, an operator does
        async with httpx.AsyncClient(
            timeout=patience(30),
            base_url=f"http://127.0.0.1:{serving.admin_port}",
            trust_env=False,
            verify=False,
        ) as one:
            asked = "i-000002,routing.interaction.queue,2026-01-01T09:00:00Z"
            groups = (await one.get("/v1/letters/groups")).json()["groups"]
            found = (await one.get("/v1/where", params={"key": asked})).json()
            told = [groups[0]["cause"], found["letters"][0]["detail"], found["attempts"][-1]["error"]]
            assert all(words.startswith("not shown") for words in told)
            for token, shown in ((BERT, False), (ANNA, True)):
                headers = {"Authorization": f"Bearer {token}"}
                for path in ("/v1/letters/1", "/v1/letters", "/letters/1"):
                    text = (await one.get(path, headers=headers)).text
                    assert ("qé" in text or "q\\u00e9" in text or "q\\\\u00e9" in text) is shown, (
                        token,
                        path,
                    )


async def test_it_shows_what_matches_ends_at_its_limit_and_refuses_kindly(place: Place) -> None:
    api = Api()
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        when = json.dumps({"interactionId": ["i-000003"]})
        started = asyncio.create_task(
            place.run("tap", f"127.0.0.1:{serving.admin_port}", "--when", when, "--limit", "1", "--json")
        )
        number = 100
        while not started.done():  # it is looking from some moment on
            number += 10
            body = [event(3, note=f"{number}"), *(event(number + one) for one in range(5))]
            assert (await post(serving.ingest_port, body, token=CRM)).status == 202
        line = json.loads((await started).out)
        assert line["event"]["interactionId"] == "i-000003"
        async with httpx.AsyncClient(
            timeout=patience(30),
            base_url=f"http://127.0.0.1:{serving.admin_port}",
            trust_env=False,
            verify=False,
        ) as one:
            for query, status, words in (
                ({"when": "{"}, 400, "the pattern is not JSON"),
                ({"when": '{"a":[{"prefx":"b"}]}'}, 400, "prefix"),
                ({"sink": "south"}, 404, "there is no sink south"),
                ({"what": "lost"}, 400, "choose one of"),
            ):
                answer = await one.get("/v1/tap", params=query)
                assert (answer.status_code, words in answer.text) == (status, True), answer.text


async def test_who_leaves_makes_room_though_no_event_comes_and_leaves_no_trace(place: Place) -> None:
    api = Api()
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        for _ in range(4):
            async with looking(serving):
                pass
        async with asyncio.timeout(patience(30)):
            url = f"http://127.0.0.1:{serving.admin_port}/v1/tap"
            async with httpx.AsyncClient(timeout=patience(30), trust_env=False, verify=False) as client:
                while True:
                    async with client.stream("GET", url) as answer:
                        if answer.status_code == 200:
                            break
                    await asyncio.sleep(0.05)
    assert not [line for line in serving.log if "exception" in line]
