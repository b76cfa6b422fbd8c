"""The client with a guard: it connects to addresses that were checked, and to no others."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from ingestd.core.answer import Answer
from ingestd.transport.client import Client
from ingestd.transport.url_guard import UrlGuard
from tests.each import each
from tests.machine import patience
from tests.ports import free_port
from tests.receiver import Cut, Receiver, in_turn

pytestmark = pytest.mark.anyio

METADATA = "169.254.169.254"
STRICT = UrlGuard(allow_private=False)
LENIENT = UrlGuard(allow_private=True)


class Names:
    """The system's resolver, in the test's hands: each lookup gives the next of ``answers``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Sequence[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._look_up)

    async def _look_up(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


async def get(url: str, guard: UrlGuard | None, **options: Any) -> Answer:
    async with Client(timeout_s=patience(5), guard=guard, **options) as client:
        return await client.request("GET", url)


def assert_refused(answer: Answer, words: str) -> None:
    assert (answer.status, answer.unsent) == (0, True)
    assert words in answer.error
    assert answer.error.endswith(": refused")


async def test_an_internal_address_is_not_connected_to() -> None:
    async with Receiver() as receiver:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"):
            answer = await get(f"http://{host}:{receiver.port}/", STRICT)
            assert_refused(answer, "internal")
        async with Client(guard=STRICT) as client:
            assert_refused(await client.post(receiver.url, b"{}", {}), "127.0.0.1 is an internal address")
    assert receiver.connections == 0


@each("host", ["127.1", "0x7f000001", "2130706433", "017700000001", "127.0.0.1."])
async def test_an_odd_spelling_does_not_get_by_the_client_either(host: str) -> None:
    async with Receiver() as receiver:
        for guard in (STRICT, LENIENT):
            assert_refused(await get(f"http://{host}:{receiver.port}/", guard), "odd way")
    assert receiver.connections == 0


async def test_without_a_guard_and_with_one_that_allows_it_nothing_changes() -> None:
    async with Receiver() as receiver:
        for guard in (None, LENIENT, UrlGuard(allow_private=False, allowed_hosts=["127.0.0.1"])):
            assert (await get(receiver.url, guard)).status == 200


async def test_a_name_that_leads_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as receiver:
        Names(monkeypatch, ["127.0.0.1"])
        url = f"http://rebind.example:{receiver.port}/"
        assert_refused(await get(url, STRICT), "rebind.example (127.0.0.1) is an internal address")
        assert (await get(url, UrlGuard(allow_private=False, allowed_hosts=["rebind.example"]))).status == 200
    assert receiver.connections == 1


async def test_of_several_addresses_only_those_that_may_be_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as receiver:
        Names(monkeypatch, [METADATA, "127.0.0.1"])
        assert (await get(f"http://both.example:{receiver.port}/", LENIENT)).status == 200


async def test_a_name_that_answers_otherwise_the_second_time_gains_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rebinding: 127.0.0.1 stands for an address that is allowed, and is the only one ever connected to."""
    async with Receiver() as receiver:
        names = Names(monkeypatch, ["127.0.0.1"], [METADATA])
        url = f"http://rebind.example:{receiver.port}/"
        assert (await get(url, LENIENT)).status == 200
        assert names.asked == ["rebind.example"]  # one lookup: what was checked is what was connected to
        assert_refused(await get(url, LENIENT), f"rebind.example ({METADATA}) is a metadata address")


async def test_an_address_that_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, ["0x7f.1"])
    assert_refused(await get("http://odd.example/", LENIENT), "odd way")


async def test_through_a_proxy_only_the_url_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as proxy:
        monkeypatch.setenv("http_proxy", f"http://proxy.example:{proxy.port}")
        monkeypatch.setenv("no_proxy", "elsewhere.example:80,127.0.0.9")
        Names(monkeypatch, ["127.0.0.1"])
        answer = await get("http://far.example/x", STRICT, trust_env=True)
        assert answer.status == 200
        assert_refused(await get("http://127.0.0.1/x", STRICT, trust_env=True), "internal")
    assert [request.path for request in proxy.requests] == ["http://far.example/x"]


async def test_what_cannot_have_been_sent_is_told_apart() -> None:
    refused = await get(f"http://127.0.0.1:{free_port()}/", None)
    assert (refused.status, refused.unsent) == (0, True)
    async with Receiver(in_turn(Cut())) as receiver:
        cut = await get(receiver.url, None)
    assert (cut.status, cut.unsent) == (0, False)
