"""Lists of the control plane, page by page: classic, with underscores, by cursor, and pages that mislead."""

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ingestd.core.errors import UserError
from ingestd.transport.api_client import ApiClient
from ingestd.transport.api_pages import MAX_PAGES
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Client
from tests.each import each
from tests.integration.transport.support import FakeClock
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio

PATH = "/api/v2/things"


def page(entities: list[Any], **more: Any) -> Reply:
    return Reply(body=json.dumps({"entities": entities} | more).encode())


def things(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"t-{number}"} for number in numbers]


def query(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}


async def list_all(
    script: Any, params: dict[str, str | int] | None = None, *, below: str = "", max_pages: int = MAX_PAGES
) -> tuple[list[Any], list[Request]]:
    before = asyncio.all_tasks()
    async with Receiver(script) as receiver, Client() as client:
        api = ApiClient(
            client, NoAuth(), base_url=receiver.url + below, clock=FakeClock(), requests_per_minute=0
        )
        found = await api.list(PATH, params=params, max_pages=max_pages)
    assert asyncio.all_tasks() == before
    return found, receiver.requests


async def test_classic_pages_are_read_to_the_last() -> None:
    def script(request: Request) -> Reply:
        number = int(query(request).get("pageNumber", 1))
        return page(things(2 * number, 2 * number + 1), pageNumber=number, pageCount=3)

    found, requests = await list_all(script, {"integrationType": "amazon-eventbridge-source"})
    assert found == things(2, 3, 4, 5, 6, 7)
    kind = {"integrationType": "amazon-eventbridge-source", "pageSize": "100"}
    assert [query(request) for request in requests] == [
        kind,
        kind | {"pageNumber": "2"},
        kind | {"pageNumber": "3"},
    ]


@each("params", [{}, {"page_size": 50}])
async def test_pages_with_underscores_are_read_to_the_last(params: dict[str, str | int]) -> None:
    """Seed 004 counts what is on all pages: 25 subscriptions of one organization."""

    def script(request: Request) -> Reply:
        number = int(query(request).get("page_number", 1))
        return page(things(number), page_number=number, page_count=4)

    found, requests = await list_all(script, params)
    assert found == things(1, 2, 3, 4)
    assert query(requests[-1])["page_number"] == "4"


@each("absolute", [False, True])
async def test_a_cursor_is_followed(absolute: bool) -> None:
    def script(request: Request) -> Reply:
        after = int(query(request).get("after", 0))
        start = f"http://{request.headers['host']}" if absolute else ""
        more = {"nextUri": f"{start}{PATH}?pageSize=100&after={after + 1}"} if after < 3 else {}
        return page(things(after), **more)

    found, requests = await list_all(script)
    assert found == things(0, 1, 2, 3)
    assert "pageNumber" not in requests[-1].path


@each("shown", ["", "/genesys"])
async def test_a_gateway_may_keep_its_own_path_to_itself(shown: str) -> None:
    def script(request: Request) -> Reply:
        assert request.path.startswith(f"/genesys{PATH}")
        return (
            page(things(2))
            if "after" in query(request)
            else page(things(1), nextUri=f"{shown}{PATH}?after=1")
        )

    found, _ = await list_all(script, below="/genesys")
    assert found == things(1, 2)


@each(
    "next_uri",
    [
        "https://evil.example/api/v2/things?after=1",
        "//evil.example/api/v2/things",
        "http://127.0.0.1@evil.example/x",
        "http://[::1]/x",
        "http://[bad/x",
        "javascript:x",
        "api/v2/things",
        "?after=1",
        "/../admin",
        "/\\evil.example/",
        5,
        ["/x"],
    ],
)
async def test_a_token_is_not_led_to_another_host_or_place(next_uri: Any) -> None:
    asked = []

    def script(request: Request) -> Reply:
        asked.append(request.path)
        return page(things(1), nextUri=next_uri)

    with pytest.raises(UserError):
        await list_all(script)
    assert len(asked) == 1


async def test_without_a_page_count_there_is_one_page() -> None:
    for more in ({}, {"pageCount": None}, {"pageCount": "7"}, {"pageCount": True}, {"pageCount": 0}):
        found, requests = await list_all(lambda _, more=more: page(things(1), **more))
        assert (found, len(requests)) == (things(1), 1)


async def test_a_page_that_repeats_is_the_end() -> None:
    found, requests = await list_all(lambda _: page(things(1, 2), pageCount=500))
    assert (found, len(requests)) == (things(1, 2), 2)
    found, requests = await list_all(lambda _: page([{"eventType": "a"}, "b"], pageCount=500))
    assert (found, len(requests)) == ([{"eventType": "a"}, "b"], 2)
    found, requests = await list_all(lambda _: page([], nextUri=f"{PATH}?after=1"))
    assert (found, len(requests)) == ([], 2)


async def test_what_moves_to_the_next_page_while_it_is_read_is_there_once() -> None:
    pages = {1: things(1, 2), 2: things(2, 3)}
    found, _ = await list_all(lambda r: page(pages[int(query(r).get("pageNumber", 1))], pageCount=2))
    assert found == things(1, 2, 3)


async def test_pages_without_end_are_an_error_and_not_a_short_list() -> None:
    assert MAX_PAGES >= 100
    count = iter(range(10_000))
    with pytest.raises(UserError, match="more than 20 pages"):
        await list_all(
            lambda _: page(things(number := next(count)), nextUri=f"{PATH}?after={number}"), max_pages=20
        )
    assert next(count) <= 22


async def test_a_bare_list_is_one_page_and_anything_else_is_told() -> None:
    found, _ = await list_all(lambda _: Reply(body=b'["a", "b"]'))
    assert found == ["a", "b"]
    for body in (b"{}", b'{"entities": {}}', b"5", b""):
        with pytest.raises(UserError, match="no list of entities"):
            await list_all(lambda _, body=body: Reply(body=body))
