"""The receipt that several sinks share."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.core.receipt import FanOutReceipt, Positions, Receipt

SINKS = ("one", "two", "three")


def letter(detail: str = "no") -> DeadLetter:
    return DeadLetter(b"payload", Reason.REFUSED, detail, 1, 0, 0)


def make(routed: Mapping[str, Positions], done: list[str]) -> FanOutReceipt:
    events = len(set[int]().union(*routed.values()))
    whole = Receipt(events, lambda: done.append("all"))
    receipt = FanOutReceipt(whole, routed, events=events, sinks=len(routed), sink_done=done.append)
    for sink, positions in routed.items():
        receipt.expect(sink, len(positions))
    return receipt


@given(st.data())
def test_an_event_is_lost_when_the_last_of_its_sinks_gave_it_up_and_failed_from_the_first(
    data: st.DataObject,
) -> None:
    routed = {sink: sorted(data.draw(st.sets(st.integers(0, 9)), label=sink)) for sink in SINKS}
    failures = [(sink, position) for sink in SINKS for position in routed[sink]]
    chosen = data.draw(st.permutations(failures)) if failures else []
    chosen = chosen[: data.draw(st.integers(0, len(chosen)))]
    done: list[str] = []
    receipt = make(routed, done)
    seen: set[tuple[str, int]] = set()
    for sink, position in chosen:
        seen.add((sink, position))
        takers = {(name, position) for name in SINKS if position in routed[name]}
        assert receipt.fail(position, letter(sink)) == (takers <= seen)
    gone = {p for _, p in failures if all((s, p) in seen for s in SINKS if p in routed[s])}
    assert set(receipt.lost()) == gone
    assert set(receipt.failed) == {position for _, position in seen}
    assert not done


def test_it_is_known_after_the_last_sink_and_no_sink_resolves_an_event_twice() -> None:
    done: list[str] = []
    receipt = make({"one": range(3), "two": range(3)}, done)
    assert receipt.resolve("one", range(2), ()).count == 0
    receipt.finish("one", 2)
    assert receipt.resolve("one", range(2, 3), ()).count == 0
    receipt.finish("one", 1)
    assert (receipt.sinks, done) == (1, ["one"])
    resolved = receipt.resolve("two", range(3), ())
    assert (resolved.count, resolved.delivered()) == (3, 3)
    with pytest.raises(AssertionError, match="twice"):
        receipt.resolve("two", range(1), ())


def test_the_whole_is_settled_once_the_last_sink_has_finished() -> None:
    done: list[str] = []
    receipt = make({"one": range(2), "two": range(1, 3)}, done)
    for sink, positions in (("two", range(1, 3)), ("one", range(2))):
        receipt.resolve(sink, positions, ())
        assert "all" not in done
        receipt.finish(sink, 2)
    assert done == ["two", "one", "all"]


def test_the_first_letter_of_an_event_is_remembered_without_its_payload() -> None:
    """The store has it; a sink that is away for a week would keep all of them in memory."""
    receipt = make({"one": range(1), "two": range(1)}, [])
    receipt.fail(0, letter("first"))
    receipt.fail(0, letter("second"))
    assert receipt.lost() == {0: letter("first")._replace(payload=b"")}
