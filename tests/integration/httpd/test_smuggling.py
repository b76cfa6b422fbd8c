"""Requests that two servers could read differently: each is refused, and nothing behind it is believed."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.httpd.head import BadRequest, Head
from ingestd.httpd.request import KnownHeads, RequestReader, ServerLimits
from ingestd.httpd.server import Server, serve
from tests.each import each
from tests.integration.httpd.wire_client import POST, Echo, connect

SMUGGLED = b"POST /smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
AN_END = b"0\r\n\r\n"
"""Of chunks, for those who believe that there are some."""
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def with_fields(fields: bytes) -> bytes:
    return POST + fields + b"\r\n\r\n"


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
LENGTHS = {
    "length with transfer-encoding": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "transfer-encoding with length": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6",
    "two equal lengths": b"Content-Length: 5\r\nContent-Length: 5",
    "lengths in a list": b"Content-Length: 5, 5",
    "length with a sign": b"Content-Length: +5",
    "negative length": b"Content-Length: -5",
    "hexadecimal length": b"Content-Length: 0x5",
    "length with an underscore": b"Content-Length: 1_0",
    "length with a fraction": b"Content-Length: 5.0",
    "length in two parts": b"Content-Length: 5 5",
    "empty length": b"Content-Length:",
    "overflowing length": b"Content-Length: 18446744073709551621",
    "huge length": b"Content-Length: " + b"9" * 400,
    "length of other digits": b"Content-Length: \xd9\xa5",
    "length after a vertical tab": b"Content-Length: \x0b5",
}
CODINGS = {
    "unknown coding": b"Transfer-Encoding: xchunked",
    "chunked not last": b"Transfer-Encoding: chunked, identity",
    "chunked in one field of two": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "coding over two fields": b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    "identity": b"Transfer-Encoding: identity",
    "empty coding": b"Transfer-Encoding:",
    "folded coding": b"Transfer-Encoding:\r\n chunked",
    "coding after a vertical tab": b"Transfer-Encoding: \x0bchunked",
    "quoted coding": b'Transfer-Encoding: "chunked"',
    "coding with an empty list member": b"Transfer-Encoding: chunked,",
    "name with a blank": b"Transfer-Encoding : chunked",
    "chunked twice in a list": b"Transfer-Encoding: chunked, chunked",
    "upgrade, length and chunks": UPGRADE + b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "upgrade and an unknown coding": UPGRADE + b"Transfer-Encoding: gzip",
    "upgrade twice and a coding twice": 2 * (UPGRADE + b"Transfer-Encoding: chunked\r\n") + b"A: b",
}
FIELDS = {
    "blank before the colon": b"A : b",
    "tab before the colon": b"A\t: b",
    "bare LF": b"A: b\nC: d",
    "bare CR": b"A: b\rC: d",
    "CR CR LF": b"A: b\r\r\nC: d",
    "continued line": b"A: b\r\n c",
    "continued line with a tab": b"A: b\r\n\tc",
    "NUL in a value": b"A: b\0c",
    "NUL in a name": b"A\0: b",
    "control character in a value": b"A: b\x01",
    "DEL in a value": b"A: b\x7f",
    "no colon": b"A",
    "no name": b": b",
    "name that is not ASCII": b"\xc3\xa4: b",
    "name in brackets": b"(A): b",
    "leading blank": b" A: b",
    "two hosts": b"Host: other",
    "two equal hosts": b"Host: localhost",
}
REQUEST_LINES = {
    "no host": b"POST / HTTP/1.1\r\nContent-Length: 0",
    "host with a path": b"POST / HTTP/1.1\r\nHost: a/b",
    "host with a user": b"POST / HTTP/1.1\r\nHost: me@a",
    "host with a blank": b"POST / HTTP/1.1\r\nHost: a b",
    "two hosts in one": b"POST / HTTP/1.1\r\nHost: a, b",
    "two blanks before the target": b"POST  / HTTP/1.1\r\nHost: a",
    "two blanks after the target": b"POST /  HTTP/1.1\r\nHost: a",
    "blank at the end": b"POST / HTTP/1.1 \r\nHost: a",
    "blank at the start": b" POST / HTTP/1.1\r\nHost: a",
    "tab": b"POST\t/ HTTP/1.1\r\nHost: a",
    "blank in the target": b"POST /a b HTTP/1.1\r\nHost: a",
    "control character": b"POST /\x01 HTTP/1.1\r\nHost: a",
    "NUL": b"POST /\0 HTTP/1.1\r\nHost: a",
    "target that is not ASCII": b"POST /\xc3\xa4 HTTP/1.1\r\nHost: a",
    "fragment": b"POST /#a HTTP/1.1\r\nHost: a",
    "relative target": b"POST v1/events HTTP/1.1\r\nHost: a",
    "authority form": b"POST a:80 HTTP/1.1\r\nHost: a:80",
    "connect": b"CONNECT a:80 HTTP/1.1\r\nHost: a:80",
    "connect with chunks": b"CONNECT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked",
    "asterisk for a POST": b"POST * HTTP/1.1\r\nHost: a",
    "other host in the target": b"POST http://b/v1/events HTTP/1.1\r\nHost: a",
    "other port in the target": b"POST http://a:1/v1/events HTTP/1.1\r\nHost: a",
    "user in the target": b"POST http://me@a/v1/events HTTP/1.1\r\nHost: a",
    "other scheme": b"POST ftp://a/v1/events HTTP/1.1\r\nHost: a",
    "brackets in the target": b"POST http://[a/v1/events HTTP/1.1\r\nHost: a",
    "lower-case method": b"post / HTTP/1.1\r\nHost: a",
    "unknown method": b"SMUGGLE / HTTP/1.1\r\nHost: a",
    "lower-case protocol": b"POST / http/1.1\r\nHost: a",
    "HTTP/0.9": b"POST /\r\n\r\n",
    "HTTP/1.10": b"POST / HTTP/1.10\r\nHost: a",
    "HTTP/01.1": b"POST / HTTP/01.1\r\nHost: a",
    "RTSP": b"POST / RTSP/1.0\r\nHost: a",
    "ICE": b"SOURCE / ICE/1.0\r\nHost: a",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked",
    "empty line of LF": b"\nPOST / HTTP/1.1\r\nHost: a",
    "empty line of CR": b"\rPOST / HTTP/1.1\r\nHost: a",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "bare LF throughout": b"POST / HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
    "bare CR throughout": b"POST / HTTP/1.1\rHost: a\r\r",
    "garbage": b"\xff\xfe\0\0",
}
CHUNKS = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "size with a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "size with garbage": b"5g\r\nhello\r\n0\r\n\r\n",
    "blank after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "blank before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "overflowing size": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size that is too small": b"4\r\nhello\r\n0\r\n\r\n",
    "size that is too large": b"6\r\nhello\r\n0\r\n\r\n",
    "LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "nothing after the data": b"5\r\nhello0\r\n\r\n",
    "LF in an extension": b"5;a\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;a\0\r\nhello\r\n0\r\n\r\n",
    "LF in a quoted extension": b'5;a="\n"\r\nhello\r\n0\r\n\r\n',
    "huge extension": b"5;a=" + b"b" * 40_000 + b"\r\nhello\r\n0\r\n\r\n",
    "huge number of zeros": b"0" * 40_000 + b"5\r\nhello\r\n0\r\n\r\n",
    "huge trailer": b"5\r\nhello\r\n0\r\nA: " + b"b" * 40_000 + b"\r\n\r\n",
    "length in the trailer": b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "bare LF in the trailer": b"5\r\nhello\r\n0\r\nA: b\nC: d\r\n\r\n",
    "blank in the trailer's name": b"5\r\nhello\r\n0\r\nA : b\r\n\r\n",
}
SHAPES = {
    **{name: with_fields(fields) for name, fields in (LENGTHS | CODINGS | FIELDS).items()},
    **{name: line + b"\r\n\r\n" for name, line in REQUEST_LINES.items()},
    **{f"chunk: {name}": CHUNKED + chunks for name, chunks in CHUNKS.items()},
}
SPOKEN_ELSEWHERE = {
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0": b"POST / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/1.2": b"POST / HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/0.9 with a version": b"POST / HTTP/0.9\r\nHost: a\r\n\r\n",
    "HTTP/3.0, head incomplete": b"POST / HTTP/3.0\r\nHost: a\r\n",
}


@pytest.fixture
async def server(application: Echo) -> AsyncIterator[Server]:
    async with serve(application, ServerLimits(), "127.0.0.1", 0) as server:
        yield server


async def is_refused(server: Server, application: Echo, raw: bytes, status: int) -> None:
    async with await connect(server.port) as client:
        client.send(raw)
        answer = await client.answer()
        assert (answer.status, answer.closes) == (status, True), answer
        assert answer.headers["content-type"] == "application/problem+json"
        client.writer.write_eof()
        assert await client.closed() == b""
    assert application.requests == []


@pytest.mark.anyio
@each("raw", SHAPES.values())
async def test_a_shape_that_smuggles_is_refused_and_what_follows_is_not_believed(
    server: Server, application: Echo, raw: bytes
) -> None:
    await is_refused(server, application, raw + AN_END + SMUGGLED, 400)


@pytest.mark.anyio
@each(
    "raw",
    [
        b"POST / HTTP/1.1\nHost: a\n\n",
        b"POST / HTTP/1.1\rHost: a\r\r",
        b"POST / HTTP/1.1\r\nHost: a\n\n",
        b"POST  / HTTP/1.1\r\nHost",
        b"POST /\r\n",
        b"\x16\x03\x01\x02",
        b"{}",
    ],
)
async def test_what_cannot_become_a_request_is_refused_before_its_head_is_complete(
    server: Server, application: Echo, raw: bytes
) -> None:
    await is_refused(server, application, raw, 400)


PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x50\x1f\x90"


@pytest.mark.anyio
@each(
    ("raw", "named"),
    [
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 56324 8080\r\n", b"the PROXY protocol"),
        (b"PROXY UNKNOWN\r\n" + SMUGGLED, b"the PROXY protocol"),
        (PROXY_2, b"the PROXY protocol"),
        (PROXY_2 + SMUGGLED, b"the PROXY protocol"),
        (b"\x16\x03\x01\x02", b"TLS, where plain HTTP is expected"),
    ],
)
async def test_what_a_load_balancer_puts_before_requests_is_named(
    server: Server, application: Echo, raw: bytes, named: bytes
) -> None:
    async with await connect(server.port) as client:
        client.send(raw)
        answer = await client.answer()
        assert answer.status == 400
        assert named in answer.body
    assert not application.requests


@pytest.mark.anyio
@each("raw", SPOKEN_ELSEWHERE.values())
async def test_another_version_of_http_is_answered_505(server: Server, application: Echo, raw: bytes) -> None:
    await is_refused(server, application, raw, 505)


@pytest.mark.anyio
@each("coding", [b"gzip, chunked", b"foo, chunked", b"gzip,\tchunked"])
async def test_a_transfer_coding_that_is_not_known_is_answered_501(
    server: Server, application: Echo, coding: bytes
) -> None:
    await is_refused(server, application, with_fields(b"Transfer-Encoding: " + coding), 501)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://LOCALHOST/v1/events?a=b", "/v1/events", "a=b"),
        (b"https://localhost", "/", ""),
        (b"http://localhost/?", "/", ""),
        (b"/v1//../events?a=b?c%00", "/v1//../events", "a=b?c%00"),
    ],
)
async def test_an_absolute_target_is_taken_by_its_path(
    server: Server, application: Echo, target: bytes, path: str, query: str
) -> None:
    async with await connect(server.port) as client:
        client.send(b"POST " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.answer()).status == 200
    (request,) = application.requests
    assert (request.path, request.query) == (path, query)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "framed",
    [
        b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n",
    ],
    ids=["length", "chunks"],
)
@pytest.mark.parametrize("upgrade", [UPGRADE, UPGRADE.upper(), UPGRADE + b"Upgrade: websocket\r\n"])
async def test_an_upgrade_is_ignored_and_its_body_is_a_body(
    server: Server, application: Echo, upgrade: bytes, framed: bytes
) -> None:
    async with await connect(
        server.port
    ) as client:  # as the client of Java's library asks unless told not to
        client.send(POST + upgrade + framed + POST + b"Content-Length: 2\r\n\r\n{}")
        assert (await client.answer()).body == SMUGGLED
        assert (await client.answer()).body == b"{}"
    assert [request.path for request in application.requests] == ["/v1/events"] * 2


@pytest.mark.anyio
async def test_a_trailer_changes_nothing_in_the_head(server: Server, application: Echo) -> None:
    async with await connect(server.port) as client:
        client.send(POST + b"Content-Type: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        client.send(b"Content-Type: b\r\nAuthorization: c\r\nHost: d\r\n\r\n")
        assert (await client.answer()).status == 200
    (request,) = application.requests
    assert request.headers == {"host": "localhost", "content-type": "a", "transfer-encoding": "chunked"}
    assert request.repeated == frozenset()


def all_requests(pieces: list[bytes]) -> list[tuple[str, dict[str, str], bytes] | int]:
    """What a reader makes of the bytes; a status if it refuses."""
    reader, found = RequestReader(), list[tuple[str, dict[str, str], bytes] | int]()
    limits = ServerLimits(max_head_bytes=1024, max_body_bytes=64)
    known = KnownHeads(limits.max_headers)
    try:
        for piece in pieces:
            reader.buffer += piece
            while reader.buffer:
                head = reader.head or reader.read_head(limits, known)
                body = reader.read_body(head, limits) if isinstance(head, Head) else None
                if head is None or body is None:
                    break
                found.append((head.target, head.headers, body))
                reader.head = None
    except BadRequest as error:
        found.append(error.status)
    return found


GOOD = [
    POST + b"Content-Length: 5\r\n\r\nhello",
    CHUNKED + b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nTrailer: x\r\n\r\n",
    CHUNKED + b"4\r\n\r\n\r\n\r\n2\r\n\r\n\r\n0\r\n\r\n",
    b"GET /healthz HTTP/1.0\r\n\r\n",
    b"\r\n\r\nGET /a?b HTTP/1.1\r\nHost: a\r\nA: b\r\nA: c\r\n\r\n",
]


@given(
    messages=st.lists(st.sampled_from([*GOOD, *SHAPES.values()]), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=30),
)
def test_requests_are_the_same_however_the_network_cuts_them(messages: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(messages)
    points = sorted({cut for cut in cuts if cut < len(whole)})
    pieces = [whole[a:b] for a, b in zip([0, *points], [*points, len(whole)], strict=True)]
    found, at_once = all_requests(pieces), all_requests([whole])
    # where a refusal comes from may differ (an incomplete head is looked at too), not what was believed
    assert [one for one in found if not isinstance(one, int)] == [
        one for one in at_once if not isinstance(one, int)
    ]
    assert [isinstance(one, int) for one in found] == [isinstance(one, int) for one in at_once]


@given(st.lists(st.sampled_from(GOOD), min_size=1, max_size=4))
def test_good_requests_are_all_taken(messages: list[bytes]) -> None:
    whole = b"".join(messages)
    singly = [whole[n : n + 1] for n in range(len(whole))]
    for pieces in ([whole], singly, *([whole[:n], whole[n:]] for n in range(1, len(whole), 29))):
        found = all_requests(pieces)
        assert len(found) == len(messages)
        assert not [each for each in found if isinstance(each, int)]


@given(st.binary(max_size=300), st.sampled_from([b"", POST, CHUNKED, POST + b"Content-Length: 3\r\n\r\n"]))
def test_no_bytes_raise_anything_but_bad_request(junk: bytes, start: bytes) -> None:
    for pieces in ([start + junk + b"\r\n\r\n"], [start, junk, b"\r\n\r\n"]):
        for one in all_requests(pieces):
            assert not isinstance(one, int) or one in {400, 413, 417, 431, 501, 505}


@pytest.mark.anyio
async def test_what_is_known_of_a_head_is_of_that_head_alone() -> None:
    """Requests on two connections, some with the same head, some of them chunked; then other limits."""
    heads = [POST + b"Content-Length: 5\r\n\r\n", POST + b"X: 1\r\nContent-Length: 5\r\n\r\n"]
    application, limits = Echo(), ServerLimits()
    async with (
        serve(application, limits, "127.0.0.1", 0) as server,
        await connect(server.port) as one,
        await connect(server.port) as other,
    ):
        chunks = [b"5\r\nagain\r\n" + AN_END, b"2\r\nhi\r\n" + AN_END]
        for client, head, body in (
            *((one, heads[0], b"first"), (other, heads[0], b"other"), (one, heads[1], b"third")),
            *((one, CHUNKED, chunk) for chunk in chunks),
        ):
            client.send(head + body)
            assert (await client.answer()).status == 200
        server.change_limits(ServerLimits(max_headers=1))
        other.send(heads[0] + b"other")
        assert (await other.answer()).status == 431
    bodies = [request.body for request in application.requests]
    assert bodies == [b"first", b"other", b"third", b"again", b"hi"]
    assert [request.headers.get("x") for request in application.requests] == [None, None, "1", None, None]


def test_known_heads_are_bounded_and_long_ones_are_not_kept() -> None:
    known = KnownHeads(64)
    for number in range(1000):
        head = known[b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number]
        assert known[b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number] is head
    assert len(known) <= 256
    long = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 1024)
    assert known[long] is not known[long]
