"""Which requests go through the proxy of the environment, and which are named in NO_PROXY."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestd.core.errors import UserError
from ingestd.transport.client import Client
from ingestd.transport.proxies import Proxies
from ingestd.transport.target import parse_target
from tests.certificates import self_signed
from tests.each import each
from tests.receiver import Receiver

PROXY = "http://proxy.test:3128"


def is_direct(no_proxy: str, url: str) -> bool:
    return Proxies({"http": PROXY, "https": PROXY}, no_proxy).of(parse_target(url)) is None


@each(
    ("no_proxy", "url"),
    [
        ("*", "http://anything.test/"),
        ("a.test, *", "http://anything.test/"),
        ("api.test", "http://api.test/"),
        ("api.test", "http://eu.api.test/"),
        ("API.Test", "https://api.TEST./x"),
        (".api.test", "http://api.test/"),
        (".api.test", "http://eu.api.test/"),
        ("*.api.test", "http://eu.api.test/"),
        ("a.test b.test", "http://b.test/"),
        ("127.0.0.1", "http://127.0.0.1:99/"),
        ("127.0.0.0/8", "http://127.0.0.1:99/"),
        ("10.1.2.3/8", "http://10.9.9.9/"),
        ("::1", "http://[::1]:99/"),
        ("[::1]", "http://[::1]:99/"),
        ("fd00::/8", "http://[fd12::3]/"),
        ("10.0.0.0/8", "http://[::ffff:10.1.1.1]/"),
        ("api.test:8443", "https://api.test:8443/"),
        ("api.test:443", "https://api.test/"),
        ("[::1]:99", "http://[::1]:99/"),
        ("127.0.0.0/8:99", "http://127.0.0.1:99/"),
    ],
)
def test_no_proxy_is_heard(no_proxy: str, url: str) -> None:
    assert is_direct(no_proxy, url)
    assert not is_direct("", url)


@each(
    ("no_proxy", "url"),
    [
        ("api.test", "http://myapi.test/"),
        ("*.api.test", "http://api.test/"),
        ("api.test:8443", "https://api.test/"),
        ("127.0.0.0/8", "http://128.0.0.1/"),
        ("127.0.0.0/8", "http://localhost/"),
        ("10.0.0.0/8", "http://[fd00::1]/"),
        ("10.0.0.0/99", "http://10.0.0.1/"),
        (",, ", "http://api.test/"),
    ],
)
def test_and_names_no_more_than_it_says(no_proxy: str, url: str) -> None:
    assert not is_direct(no_proxy, url)


def test_schemes_have_proxies_of_their_own() -> None:
    proxies = Proxies({"https": "proxy.test:1", "all": "https://all.test"})
    assert proxies.of(parse_target("https://a.test")) == "http://proxy.test:1"
    assert proxies.of(parse_target("http://a.test")) == "https://all.test"
    assert proxies.places == {("proxy.test", 1), ("all.test", 443)}
    assert not Proxies({"no": "a.test"})


def test_a_proxy_of_another_kind_is_refused_and_its_password_not_shown() -> None:
    with pytest.raises(UserError, match="type socks5: only http and https") as refused:
        Proxies({"all": "socks5://user:hunter2@proxy.test"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.anyio
async def test_a_range_keeps_requests_from_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as proxy, Receiver() as api:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        async with Client(trust_env=True) as client:
            assert (await client.post(api.url, b"{}", {})).status == 200
    assert (len(api.requests), len(proxy.requests)) == (1, 0)


@each("url", ["http://p:abc", "http://u:secret@p:99999", "//p:1", "http://", "http://[::1"])
def test_a_proxy_that_is_none_is_refused_before_it_is_used(url: str) -> None:
    with pytest.raises(UserError, match="not a URL with a host") as refused:
        Proxies({"http": url})
    assert "secret" not in str(refused.value)


def test_blanks_around_a_proxy_are_none_of_it() -> None:
    assert Proxies({"http": " http://p:1\t"}).of(parse_target("http://a/")) == "http://p:1"


@contextlib.asynccontextmanager
async def tunnels(
    tls: ssl.SSLContext | None, seen: list[bytes], answer: bytes = b"HTTP/1.1 200 OK\r\n\r\n"
) -> AsyncIterator[str]:
    """The URL of a proxy that knows CONNECT and nothing else; ``seen``: heads of requests."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        host, port = seen[-1].split()[1].decode().split(":")
        if b" 200 " not in answer:
            writer.close()
            return
        there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"http{'s' if tls else ''}://user:pw@127.0.0.1:{port}"


@pytest.mark.anyio
async def test_https_goes_through_a_tunnel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, names=())
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    for of_proxy in (None, tls):
        seen: list[bytes] = []
        async with Receiver(tls=tls) as api, tunnels(of_proxy, seen) as proxy:
            monkeypatch.setenv("https_proxy", proxy)
            async with Client(trust_env=True, ca_file=certificate[0]) as client:
                answers = [await client.post(api.url, b"x" * 300_000, {}) for _ in range(2)]
        assert [(answer.status, answer.error) for answer in answers] == [(200, "")] * 2
        (head,) = seen  # a tunnel is kept like any connection
        assert head.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % api.port)
        assert b"Proxy-Authorization: Basic dXNlcjpwdw==\r\n" in head
        assert all("proxy-authorization" not in request.headers for request in api.requests)


@pytest.mark.anyio
async def test_a_proxy_that_refuses_or_is_not_there_got_nothing_of_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bytes] = []
    refusal = b"HTTP/1.1 407 Who\r\nContent-Length: 3\r\n\r\nabc"
    async with tunnels(None, seen, refusal) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        async with Client(trust_env=True) as client:
            refused = await client.post("https://127.0.0.1:9/", b"{}", {})
    async with Client(trust_env=True) as client:
        gone = await client.post("https://127.0.0.1:9/", b"{}", {})
    assert [(answer.status, answer.unsent, answer.error) for answer in (refused, gone)] == [
        (0, True, "the proxy refused"),
        (0, True, "cannot connect to the proxy"),
    ]
