"""Whether a stream is still the one that was read, with any chunks lost, purged and stored since."""

from collections.abc import Coroutine
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from ingestd.cluster.names import StreamNames
from ingestd.cluster.share_log import Reached, ShareCounts
from ingestd.cluster.share_state import ShareState, begin_at
from ingestd.cluster.stream_identity import FoundStream, look_at_stream
from ingestd.cluster.stream_window import StreamWindow
from ingestd.sources.nats.connection import JetStreamError, NatsConnection
from ingestd.store.frozen_batches import FrozenBatch, PackedSegment

NAMES = StreamNames("t")
OWN = 3


def result_of(work: Coroutine[Any, Any, FoundStream]) -> FoundStream:
    """Of what never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        found: FoundStream = done.value
        return found
    raise AssertionError("it waits")


class Stream:
    """Chunks by sequence: (partition, when it was stored), a second each."""

    def __init__(self, chunks: dict[int, tuple[int, int]], last: int) -> None:
        self.chunks, self.last, self.asked = chunks, last, 0

    async def ask(self, what: str, body: Any = None) -> dict[str, Any]:
        self.asked += 1
        if what.startswith("STREAM.INFO"):
            return {"created": "today", "state": {"last_seq": self.last}}
        assert body["next_by_subj"] == NAMES.partition(OWN)
        for sequence, (partition, at) in sorted(self.chunks.items()):
            if sequence >= body["seq"] and partition == OWN:
                time = f"2026-01-01T{at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}Z"
                return {"message": {"seq": sequence, "time": time}}
        raise JetStreamError(10037, "no message found")


def test_what_was_read_before_the_end_that_was_lost_and_is_not_settled_is_delivered() -> None:
    window = StreamWindow(bytes(16), max_age_s=600.0)

    def batch(name: str, *chunks: int) -> FrozenBatch:
        segments = [PackedSegment(1, chunk, chunk + 1, b"") for chunk in chunks]
        return FrozenBatch(name, False, 0.0, 1, b"", segments, None, "sink", [name.encode() * 16])

    batches = [batch("a", 3), batch("b", 4, 6)]
    window.reclaim(key for one in batches for key in one.keys)
    state = ShareState(
        reached=Reached(2, 20, 6, 40, 37),
        counts=ShareCounts(delivered=23),
        open=batches,
        settled={4: {0, 1}, 6: {1}},
    )
    assert begin_at(state, window, 5) == ["b"]
    assert [one.id for one in state.open] == ["a"]
    assert [window.state_of_digest(one.keys[0]) for one in batches] == ["pending", "new"]
    assert state.settled == {4: {0, 1}}
    assert (state.reached.floor, state.reached.at_floor, state.reached.ahead) == (2, 21, 2)
    assert begin_at(state, window, 1) == ["a"]  # made again: nothing of it is there
    assert (state.reached.floor, state.reached.at_floor, state.settled) == (0, 23, {})


BEGIN = 1_767_225_600.0  # 2026-01-01


@given(st.data())
def test_what_came_since_the_end_was_lost_is_begun_with_whatever_else_is_there(data: st.DataObject) -> None:
    partitions = st.lists(st.sampled_from([OWN, 1]), max_size=12)
    before, since = data.draw(partitions), data.draw(partitions)
    lost = data.draw(st.integers(0, len(before)))
    kept = before[: len(before) - lost]
    # the share has read all that it had before, also what was lost then
    reached = max((at for at, one in enumerate(before, 1) if one == OWN), default=0)
    chunks = {at: (one, at) for at, one in enumerate([*kept, *since], 1)}
    for at in range(len(kept) + 1, len(chunks) + 1):
        chunks[at] = (chunks[at][0], at + 100)
    new = [at for at in range(len(kept) + 1, len(chunks) + 1) if chunks[at][0] == OWN]
    purged = data.draw(st.sets(st.sampled_from([at for at in chunks if at not in new] or [0])))
    left = {at: one for at, one in chunks.items() if at not in purged}
    state = ShareState(reached=Reached(reached, 0, reached), upto=BEGIN + reached, stream="today")
    stream = Stream(left, len(kept) + len(since))
    found = result_of(look_at_stream(cast("NatsConnection", stream), NAMES, OWN, state))
    first_new = new[0] if new else len(kept) + len(since) + 1
    if reached and first_new <= reached:
        assert found.problem
        assert found.first == first_new
    else:
        assert not found.problem
    assert stream.asked < 20
