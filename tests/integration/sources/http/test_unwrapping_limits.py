"""Lists on the way to events take time, whether there are events in them or not."""

import pytest

from ingestd.core import json_path
from ingestd.core.unwrap import Unwrapper
from ingestd.httpd.problem import RefusedRequest
from ingestd.sources.http.unwrapping import unwrapped

UNWRAP = Unwrapper(json_path.parse("a.b.c"), {})


def envelope(outer: int, inner: int, element: bytes) -> bytes:
    return b'{"a":[%b]}' % b",".join([b'{"b":[%b]}' % b",".join([element] * inner)] * outer)


def test_lists_without_an_event_are_gone_through_up_to_a_limit() -> None:
    assert unwrapped([envelope(10, 3, b'{"c":[]}')], UNWRAP, 10) == ([], {})
    for envelopes in ([envelope(10, 4, b'{"c":[]}')], [envelope(10, 3, b'{"c":[]}')] * 2):
        with pytest.raises(RefusedRequest) as refused:
            unwrapped(envelopes, UNWRAP, 10)
        assert refused.value.response.status == 413


def test_as_many_events_as_a_request_may_have_stay_below_it() -> None:
    for one in (envelope(10, 1, b'{"c":1}'), envelope(1, 10, b'{"c":1}'), envelope(10, 1, b'{"c":[1]}')):
        assert unwrapped([one], UNWRAP, 10) == ([b"1"] * 10, {})
