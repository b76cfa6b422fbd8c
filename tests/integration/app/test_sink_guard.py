"""Sinks with ``allow_private = false`` reach the public Internet only: from the settings to the socket."""

import socket
from pathlib import Path

import pytest

from ingestd.app.checks.finding import Level
from ingestd.app.publish.target import connect
from ingestd.config.settings import Settings
from ingestd.sinks.webhook import WebhookConfig
from tests.each import each
from tests.integration.app.test_check_sinks import check, of_sinks
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio

NAME = "hooks.rebind.example"


def sink(kind: str, url: str, *, allow_private: bool | None) -> str:
    more = "" if allow_private is None else f"allow_private = {str(allow_private).lower()}\n"
    if kind == "lake":
        other = "[sinks.other]\ntype = 'webhook'\nurl = 'https://example.com/'\n"
        return f"{other}[sinks.it]\ntype = 'lake'\nurl = '/tmp/lake'\ncallback_url = '{url}'\n{more}"
    return f"[sinks.it]\ntype = '{kind}'\nurl = '{url}'\n{more}"


@each(
    ("kind", "url", "allow_private", "words"),
    [
        *(
            (kind, "http://127.0.0.1:9/x", False, "127.0.0.1 is an internal address: refused")
            for kind in ("webhook", "cloudevents", "ingest_api", "lake")
        ),
        ("webhook", "http://localhost:9/x", False, "localhost is an internal name: refused"),
        ("webhook", "https://169.254.169.254/latest", None, "169.254.169.254 is a metadata address: refused"),
        ("lake", "https://169.254.169.254/latest", True, "169.254.169.254 is a metadata address: refused"),
        ("webhook", "https://2130706433/x", True, "2130706433 is written in an odd way: refused"),
        ("lake", "http://127.0.0.1:9/x", None, ""),
        ("webhook", "http://127.0.0.1:9/x", True, ""),
        ("webhook", "http://127.0.0.1:9/x", None, ""),
        ("webhook", "https://8.8.8.8/x", False, ""),
    ],
)
async def test_an_address_that_is_refused_is_told_by_check(
    tmp_path: Path, kind: str, url: str, allow_private: bool | None, words: str
) -> None:
    report = await check(tmp_path, sink(kind, url, allow_private=allow_private))
    found = of_sinks(report, Level.FAIL)
    assert len(found) == bool(words)
    assert not words or found[0].endswith(f": {words}")
    assert not found or found[0].startswith("sinks.it")


@pytest.mark.parametrize("allow_private", [True, False])
async def test_publish_looks_a_name_up_and_refuses_what_is_behind_it(
    monkeypatch: pytest.MonkeyPatch, allow_private: bool
) -> None:
    def look_up(host: str, port: int, *_: object, **__: object) -> list[object]:
        assert host == NAME
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with Receiver() as receiver:
        url = f"http://{NAME}:{receiver.port}/"
        section = WebhookConfig(type="webhook", url=url, allow_private=allow_private)
        async with connect(Settings(), section, None) as (sender, _):
            answer, _ = await sender.send(url, b"{}", {})
    assert answer.status == (200 if allow_private else 0)
    assert receiver.connections == allow_private
    if not allow_private:
        assert answer.error == f"{NAME} (127.0.0.1) is an internal address: refused"
