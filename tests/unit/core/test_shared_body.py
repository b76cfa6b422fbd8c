"""One body for several sinks."""

import sys
import zlib
from collections.abc import Sequence

from ingestd.core.sequences import together
from ingestd.core.shared_body import Frame, SharedBodies

OBJECT = Frame(b'{"events":[', b",", b"]}")
ARRAY = Frame(b"[", b",", b"]")
LINES = Frame(b"", b"\n", b"\n")
EVENTS: Sequence[bytes] = together([b'{"a":%d}' % number for number in range(50)])


def test_each_sink_has_its_own_bytes_and_their_checksum_whoever_comes_first() -> None:
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        frames = (OBJECT, ARRAY, OBJECT)
        bodies = SharedBodies(frames, max_bytes=10**6)
        mine = bodies.share()
        for number in order:
            body, checksum = mine[number].take(EVENTS)
            assert body == frames[number].body(EVENTS)
            assert checksum == zlib.crc32(body)
        assert bodies.kept_bytes == 0


def test_what_one_has_taken_is_the_memory_of_the_others() -> None:
    whole, part = [one.take(EVENTS)[0] for one in SharedBodies((OBJECT, ARRAY), max_bytes=10**6).share()]
    assert isinstance(part, memoryview)
    assert part.obj is whole
    first, again = [one.take(EVENTS)[0] for one in SharedBodies((ARRAY, ARRAY), max_bytes=10**6).share()]
    assert first is again


def test_who_comes_later_than_is_kept_makes_its_own() -> None:
    length = len(OBJECT.body(EVENTS))
    bodies = SharedBodies((OBJECT, ARRAY), max_bytes=3 * length)
    shared = [bodies.share() for _ in range(5)]
    for one, _ in shared:
        one.take(EVENTS)
        assert bodies.kept_bytes <= 3 * length
    late = [other.take(EVENTS) for _, other in shared]
    assert {(bytes(body), checksum) for body, checksum in late} == {
        (ARRAY.body(EVENTS), zlib.crc32(ARRAY.body(EVENTS)))
    }
    assert [isinstance(body, memoryview) for body, _ in late] == [False, False, True, True, True]
    assert bodies.kept_bytes == 0


def test_what_is_kept_holds_no_events() -> None:
    bodies = SharedBodies((OBJECT, ARRAY), max_bytes=10**6)
    events = [b"%d" % number for number in range(1000, 1050)]
    before = sys.getrefcount(events)
    one, other = bodies.share()
    one.take(events)
    assert bodies.kept_bytes
    assert sys.getrefcount(events) == before
    assert other.take(events)[0] == ARRAY.body(events)


def test_one_longer_than_the_limit_is_kept_alone() -> None:
    bodies = SharedBodies((OBJECT, ARRAY), max_bytes=10)
    (one, other), (next_one, _) = bodies.share(), bodies.share()
    whole, _ = one.take(EVENTS)
    next_one.take(EVENTS)
    assert bodies.kept_bytes == len(whole)
    assert isinstance(other.take(EVENTS)[0], bytes)


def test_frames_that_are_no_part_of_each_other_have_no_body_in_common() -> None:
    assert SharedBodies.can((OBJECT, ARRAY))
    assert not SharedBodies.can((OBJECT, LINES))
    assert not SharedBodies.can((Frame(b"a", b",", b"]"), ARRAY))
