"""The fate of a chunk's events at several sinks."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.letter import DeadLetter
from ingestd.core.positions import Positions
from ingestd.core.reasons import Reason
from ingestd.core.receipt import FanOutReceipt

SINKS = ("one", "two", "three")


def letter(detail: str = "no") -> DeadLetter:
    return DeadLetter(b"payload", Reason.REFUSED, detail, 1, 0, 0)


def make(routed: Mapping[str, Positions], done: list[FanOutReceipt]) -> FanOutReceipt:
    events = len(set[int]().union(*routed.values()))
    return FanOutReceipt(routed, events=events, sinks=len(routed), done=done.append)


@given(st.data())
def test_an_event_is_lost_when_the_last_of_its_sinks_gave_it_up_and_failed_from_the_first(
    data: st.DataObject,
) -> None:
    routed = {sink: sorted(data.draw(st.sets(st.integers(0, 9)), label=sink)) for sink in SINKS}
    failures = [(sink, position) for sink in SINKS for position in routed[sink]]
    chosen = data.draw(st.permutations(failures)) if failures else []
    chosen = chosen[: data.draw(st.integers(0, len(chosen)))]
    done: list[FanOutReceipt] = []
    fate = make(routed, done)
    seen: set[tuple[str, int]] = set()
    for sink, position in chosen:
        seen.add((sink, position))
        takers = {(name, position) for name in SINKS if position in routed[name]}
        assert fate.fail(position, letter(sink)) == (takers <= seen)
    gone = {p for _, p in failures if all((s, p) in seen for s in SINKS if p in routed[s])}
    assert set(fate.lost()) == gone
    assert set(fate.failed) == {position for _, position in seen}
    assert not done


def test_it_is_known_after_the_last_sink_and_no_sink_is_done_twice() -> None:
    done: list[FanOutReceipt] = []
    fate = make({"one": range(3), "two": range(3)}, done)
    fate.settle()
    assert (fate.open, done) == (1, [])
    fate.settle()
    assert (fate.open, done) == (0, [fate])
    with pytest.raises(AssertionError, match="twice"):
        fate.settle()


def test_the_first_letter_of_an_event_is_remembered_without_its_payload() -> None:
    """The store has it; a sink that is away for a week would keep all of them in memory."""
    fate = make({"one": range(1), "two": range(1)}, [])
    fate.fail(0, letter("first"))
    fate.fail(0, letter("second"))
    assert fate.lost() == {0: letter("first")._replace(payload=b"")}
