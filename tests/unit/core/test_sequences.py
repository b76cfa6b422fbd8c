from array import array

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.sequences import positions_without, without
from ingestd.store.frozen_batches import pack_positions, unpack_positions


@given(st.integers(0, 9_000), st.sets(st.integers(0, 8_999)), st.integers(0, 3))
def test_places_that_are_left_are_the_same_whatever_holds_them(
    count: int, chosen: set[int], start: int
) -> None:
    gone = sorted(index for index in chosen if index < count)
    expected = without(list(range(start, start + count)), gone)
    for places in (range(start, start + count), list(range(start, start + count))):
        left = positions_without(places, gone)
        assert list(left) == expected
        assert unpack_positions(pack_positions(left)) == expected
        assert pack_positions(left) == array("I", expected).tobytes()


def test_what_is_taken_out_of_some_places_stays_in_others() -> None:
    first, second = positions_without(range(5), [0, 4]), positions_without(range(5), [2])
    assert (list(first), list(second)) == ([1, 2, 3], [0, 1, 3, 4])
