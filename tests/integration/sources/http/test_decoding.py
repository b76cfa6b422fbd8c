import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.httpd.problem import RefusedRequest
from ingestd.sources.http.body import SMALL_BYTES, decode
from tests.each import each
from tests.integration.sources.http.support import EVENT, JSON, LINES, Scene

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}
codings = pytest.mark.parametrize("coding", ["gzip", "zstd"])


def unpack(body: bytes, coding: str, *, max_body_bytes: int = 1 << 20, max_expansion: int = 100) -> bytes:
    return decode(body, coding, max_body_bytes=max_body_bytes, max_expansion=max_expansion)


def status_of(body: bytes, coding: str, **limits: int) -> int:
    with pytest.raises(RefusedRequest) as caught:
        unpack(body, coding, **limits)
    return caught.value.response.status


@each("coding", ["gzip", "x-gzip", "GZip", " gzip ", "zstd", "ZSTD"])
def test_a_packed_body_is_unpacked(coding: str) -> None:
    scene = Scene()
    pack = PACK["zstd" if "zstd" in coding.lower() else "gzip"]
    assert scene.status(pack(EVENT), {**JSON, "content-encoding": coding}) == 202
    assert scene.desk.events == [EVENT]


@each("coding", ["identity", "Identity", ""])
def test_identity_is_no_coding(coding: str) -> None:
    assert Scene().status(EVENT, {**JSON, "content-encoding": coding}) == 202


@codings
@given(data=st.binary(max_size=2000), cut=st.integers(0, 2000), tail=st.binary(max_size=3))
def test_only_the_whole_archive_and_nothing_more_is_taken(
    coding: str, data: bytes, cut: int, tail: bytes
) -> None:
    packed = PACK[coding](data)
    assert unpack(packed, coding) == data
    assert status_of(packed[: min(cut, len(packed) - 1)], coding) == 400
    if tail:
        assert status_of(packed + tail, coding) == 400


@codings
@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_happens(coding: str, body: bytes) -> None:
    assert status_of(b"no archive" + body, coding) == 400


@codings
def test_several_archives_in_one_body_are_one(coding: str) -> None:
    pack = PACK[coding]
    assert unpack(pack(b"ab") + pack(b"") + pack(b"c"), coding) == b"abc"
    assert unpack(pack(b"x") * 16, coding) == b"x" * 16
    assert status_of(pack(b"x") * 17, coding) == 400


@codings
def test_the_decoded_size_is_limited(coding: str) -> None:
    pack, text = PACK[coding], bytes(range(256)) * 40
    assert unpack(pack(text), coding, max_body_bytes=len(text)) == text
    assert status_of(pack(text), coding, max_body_bytes=len(text) - 1) == 413
    half = len(text) // 2
    both = pack(text[:half]) + pack(text[half:])
    assert unpack(both, coding, max_body_bytes=len(text)) == text
    assert status_of(both, coding, max_body_bytes=len(text) - 1) == 413


@codings
def test_the_expansion_is_limited_beyond_a_small_size(coding: str) -> None:
    pack = PACK[coding]
    assert len(unpack(pack(bytes(SMALL_BYTES)), coding, max_expansion=1)) == SMALL_BYTES
    assert status_of(pack(bytes(SMALL_BYTES + 1)), coding, max_expansion=1) == 413
    size = len(pack(bytes(1 << 20)))
    assert unpack(pack(bytes(1 << 20)), coding, max_expansion=(1 << 20) // size + 1) == bytes(1 << 20)
    assert status_of(pack(bytes(1 << 20)), coding, max_expansion=(1 << 20) // size) == 413


@codings
def test_a_bomb_costs_no_more_than_the_limit(coding: str) -> None:
    packer = zlib.compressobj(wbits=31) if coding == "gzip" else zstd.ZstdCompressor()
    bomb = b"".join([packer.compress(bytes(1 << 20)) for _ in range(64)]) + packer.flush()
    scene = Scene(max_body_bytes=2 << 20, max_expansion=1_000_000)
    tracemalloc.start()
    try:
        assert scene.status(bomb, {**LINES, "content-encoding": coding}) == 413
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


def test_a_zstd_frame_that_asks_for_a_large_window_is_refused() -> None:
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 24,
        zstd.CompressionParameter.content_size_flag: 0,
    }
    packer = zstd.ZstdCompressor(options=options)
    frame = packer.compress(b"x" * 100) + packer.flush()
    assert status_of(frame, "zstd") == 400
