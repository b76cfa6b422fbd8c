"""Packed and marked answers: each is what it was before, within the limit, or said to be unreadable."""

import gzip
import sys
import tracemalloc
import zlib
from functools import partial
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.transport import decoding
from ingestd.transport.client import Client
from ingestd.transport.decoding import undo
from tests.each import each
from tests.receiver import Receiver, Reply, in_turn

zstd: Any
if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ANSWER = b'{"errors":[{"index":0,"message":"no such queue"}]}'
LIMIT = 1 << 20


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


PACK = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": partial(brotli.compress, quality=5),  # the usual 11 takes long
    "zstd": zstd.compress,
}
CODINGS = [*PACK, "GZIP", "Br", " gzip ", "gzip, br", "zstd,gzip", "identity", "identity, gzip", "gzip,", ""]


def pack(data: bytes, codings: str) -> bytes:
    for name in codings.lower().split(","):
        data = PACK.get(name.strip(), bytes)(data)
    return data


@each("codings", CODINGS)
@given(data=st.binary(max_size=300))
def test_what_was_packed_comes_back(codings: str, data: bytes) -> None:
    data = b"{" + data
    assert undo(pack(data, codings), codings, limit=LIMIT) == (data, False, "")


def test_two_formats_are_called_deflate() -> None:
    assert undo(raw_deflate(ANSWER), "deflate", limit=LIMIT) == (ANSWER, False, "")


def test_several_members_and_what_stands_behind_them() -> None:
    halves = gzip.compress(ANSWER[:9]) + gzip.compress(ANSWER[9:])
    assert undo(halves + b"\0\0\0", "gzip", limit=LIMIT) == (ANSWER, False, "")
    frames = zstd.compress(ANSWER[:9]) + zstd.compress(ANSWER[9:])
    assert undo(frames, "zstd", limit=LIMIT) == (ANSWER, False, "")


@each("codings", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_a_bomb_stays_small(codings: str) -> None:
    bomb = pack(b"0" * (16 * LIMIT), codings)
    tracemalloc.start()
    body, truncated, trouble = undo(bomb, codings, limit=LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(body), truncated, trouble) == (LIMIT, True, "")
    assert peak < 6 * LIMIT


@each("codings", ["gzip", "deflate", "br", "zstd"])
@each("cut", [1, 5, 9])
def test_one_that_ends_too_early_is_cut(codings: str, cut: int) -> None:
    body, truncated, trouble = undo(pack(ANSWER * 9, codings)[:-cut], codings, limit=LIMIT)
    assert (truncated, trouble) == (True, "")
    assert (ANSWER * 9).startswith(body)


@each(
    ("codings", "words"),
    [
        ("gzip", "not gzip"),
        ("deflate", "not deflate"),
        ("zstd", "not zstd"),
        ("br", "not br"),
        ("compress", "compress is not known"),
        ("gzip" + ", gzip" * 9, "not known"),
    ],
)
def test_what_cannot_be_unpacked_is_named(codings: str, words: str) -> None:
    assert words in undo(b"\xf3\xff<html>", codings, limit=LIMIT).unreadable


def test_a_window_over_that_of_the_standard_is_not_allocated() -> None:
    options = {zstd.CompressionParameter.window_log: 27}
    stream = zstd.ZstdCompressor(options=options)
    frame = stream.compress(b"0" * 1000) + stream.flush()
    assert "not zstd" in undo(frame, "zstd", limit=LIMIT).unreadable


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_module(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(decoding.importlib, "import_module", no_such_module)
    assert "br needs a library" in undo(brotli.compress(ANSWER), "br", limit=LIMIT).unreadable


@each("codings", ["utf-8", "gzip", "none"])
def test_a_header_that_does_not_tell_the_truth_hides_nothing(codings: str) -> None:
    assert undo(ANSWER, codings, limit=LIMIT) == (ANSWER, False, "")


@each("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@each("codings", ["", "gzip"])
def test_a_byte_order_mark_is_taken_away(encoding: str, codings: str) -> None:
    marked = ANSWER.decode().encode(encoding)
    assert undo(pack(marked, codings), codings, limit=LIMIT) == (ANSWER, False, "")


@pytest.mark.anyio
@each("codings", ["gzip", "br", "zstd", "deflate"])
async def test_the_client_undoes_it_whichever_way_it_asks(codings: str) -> None:
    reply = Reply(headers={"Content-Encoding": codings}, body=pack(b"\xef\xbb\xbf" + ANSWER, codings))
    async with Receiver(in_turn(reply)) as receiver, Client() as client:
        posted = await client.post(receiver.url, b"{}", {})
        asked = await client.request("GET", receiver.url)
    assert posted.body == asked.body == ANSWER
    assert all(request.headers["accept-encoding"] == "identity" for request in receiver.requests)


@each("coding, member", [("gzip", gzip.compress(b"")), ("zstd", b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00")])
def test_a_hundred_thousand_empty_members_are_not_all_unpacked(coding: str, member: bytes) -> None:
    """Each costs as much as a thousand bytes, and its library copies what stands behind it."""
    few, many = undo(member * 100, coding, limit=1000), undo(member * 100_000, coding, limit=1000)
    assert (few.body, few.truncated, few.unreadable) == (b"", False, "")
    assert (many.body, many.truncated) == (b"", True)
