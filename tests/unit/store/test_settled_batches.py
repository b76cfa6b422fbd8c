"""Batches that are settled are kept until what they came from has been passed."""

from ingestd.store.frozen_batches import Place, SettledBatches

CHUNKS: list[Place] = [(7, start, start + 1000) for start in range(0, 3000, 1000)]


def test_a_chunk_is_asked_for_once_however_many_of_its_batches_are_settled() -> None:
    settled, asked = SettledBatches(), list[tuple[str, Place]]()
    passed: set[Place] = set()

    def is_passed(sink: str, place: Place) -> bool:
        asked.append((sink, place))
        return place in passed

    for number in range(3000):
        settled.add("single", f"batch {number}", [CHUNKS[number // 1000]])
        assert settled.take_passed(is_passed) == []
    assert len(asked) < 4000, "the first chunk each time, all of them now and then"
    asked.clear()
    passed = {*CHUNKS[:2]}
    assert sorted(settled.take_passed(is_passed)) == sorted(f"batch {number}" for number in range(2000))
    assert len(asked) == 3


def test_a_batch_goes_when_all_its_chunks_are_passed_and_no_sink_takes_that_of_another() -> None:
    settled = SettledBatches()
    settled.add("first", "both", CHUNKS[:2])
    settled.add("second", "one", CHUNKS[:1])
    assert settled.take_passed(lambda sink, place: place == CHUNKS[0] and sink == "first") == []
    assert settled.take_passed(lambda sink, place: place == CHUNKS[0]) == ["one"]
    settled.add("first", "later", CHUNKS[:2])
    assert settled.take_passed(lambda sink, place: True) == ["both", "later"]
    assert settled.take_passed(lambda sink, place: True) == []


def test_what_cannot_be_passed_does_not_keep_for_ever_what_ends_after_it() -> None:
    settled = SettledBatches()
    for number in range(300):
        settled.add("sink", f"batch {number}", [(7, number, number + 1)])
    taken: list[str] = []
    for _ in range(300):
        taken += settled.take_passed(lambda sink, place: place[1] > 0)
    assert sorted(taken) == sorted(f"batch {number}" for number in range(1, 300))
