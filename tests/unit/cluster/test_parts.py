"""The pure parts of a spool on JetStream: who owns what, how events are split, what a log is read back to."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingestd.cluster import chunk_message
from ingestd.cluster.event_splitter import EventSplitter
from ingestd.cluster.group_keys import GroupKeys
from ingestd.cluster.installation import FORMAT, RESIZED_FORMAT, Installation, check, is_resized, wanted
from ingestd.cluster.letter_stream import LetterChange
from ingestd.cluster.membership import assign, shares_of
from ingestd.cluster.names import ALL, Share, StreamNames
from ingestd.cluster.provisioning import subjects_of
from ingestd.cluster.share_log import Frozen, LoggedRecord, Reached, Record, SentAgain, Settled, ShareCounts
from ingestd.cluster.share_state import restore
from ingestd.cluster.stream_window import StreamWindow
from ingestd.config import Settings
from ingestd.core.errors import UserError
from ingestd.core.sequences import COMPILED
from ingestd.processing.dedup import Window
from ingestd.store.frozen_batches import pack_positions

NAMES = st.text("abcdef", min_size=1, max_size=4)


@given(st.sets(NAMES, min_size=1, max_size=6), st.integers(1, 16), st.sets(NAMES, min_size=1, max_size=3))
def test_every_share_has_one_owner_and_all_have_about_as_many(
    workers: set[str], partitions: int, sinks: set[str]
) -> None:
    shares = shares_of(dict.fromkeys(sinks, False), range(partitions))
    found = assign(shares, dict.fromkeys(workers, sinks))
    assert found.keys() == set(shares)
    loads = Counter(found.values())
    assert max(loads.values()) <= -(-len(shares) // len(workers))
    assert assign(reversed(shares), dict.fromkeys(sorted(workers), sinks)) == found


def test_few_shares_change_hands_when_a_worker_goes() -> None:
    shares = shares_of({"a": False, "b": False, "c": True}, range(8))
    before = assign(shares, dict.fromkeys(("w1", "w2", "w3", "w4"), "abc"))
    after = assign(shares, dict.fromkeys(("w1", "w2", "w3"), "abc"))
    moved = [share for share in shares if before[share] != after[share]]
    assert {share for share, who in before.items() if who == "w4"} <= set(moved)
    assert len(moved) <= 9
    assert shares[-1] == Share("c", ALL)
    assert assign(shares, {"w1": "a"}).keys() == {share for share in shares if share.sink == "a"}


def test_copies_and_events_of_one_order_key_meet_in_one_partition_and_partitions_are_even() -> None:
    rng = random.Random(1)
    events = [f"{rng.randrange(200)}:{n}".encode() for n in range(2_000)]
    digests = [rng.randbytes(16) if rng.random() < 0.9 else None for _ in events]
    for splitter in (EventSplitter(8), EventSplitter(8, lambda event: event.split(b":")[0].decode())):
        found = splitter.split(events, digests)
        assert sorted(position for positions in found.values() for position in positions) == [*range(2_000)]
        assert all(positions == sorted(positions) for positions in found.values())
        assert max(map(len, found.values())) < 2 * min(map(len, found.values()))
    of_key = {events[at].split(b":")[0]: set[int]() for at in range(2_000)}
    for partition, positions in found.items():
        for at in positions:
            of_key[events[at].split(b":")[0]].add(partition)
    assert all(len(partitions) == 1 for partitions in of_key.values())
    assert EventSplitter(1).split(events, digests) == {0: range(2_000)}
    assert EventSplitter(1, first=7).split(events, digests) == {7: range(2_000)}
    numbered_on = EventSplitter(8, first=4).split(events, digests)
    assert numbered_on == {4 + at: of for at, of in EventSplitter(8).split(events, digests).items()}


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=20), st.integers(1, 20))
def test_an_event_has_its_partition_whether_all_beside_it_have_keys_or_not(
    digests: list[bytes], partitions: int
) -> None:
    events = [b"event"] * len(digests)
    splitter = EventSplitter(partitions)
    with_another = splitter.split([*events, b"without"], [*digests, None])
    found = {number: [at for at in of if at < len(events)] for number, of in with_another.items()}
    assert {number: [*of] for number, of in splitter.split(events, digests).items()} == {
        number: of for number, of in found.items() if of
    }


def test_partitions_are_numbered_on_and_only_a_change_of_theirs_is_one() -> None:
    first = Installation(FORMAT, "s", 4, "interaction", [], [])
    assert (first.first, first.numbers, first.generations) == (0, range(4), [range(4)])
    second = replace(first, format=RESIZED_FORMAT, older=[4], partitions=8)
    third = replace(second, older=[4, 8], partitions=2)
    assert (third.first, third.numbers) == (12, range(14))
    assert third.generations == [range(4), range(4, 12), range(12, 14)]
    assert subjects_of(StreamNames("t"), first) == ["ingestd.t.e.*"]
    assert subjects_of(StreamNames("t"), third) == ["ingestd.t.e.12", "ingestd.t.e.13"]
    assert [is_resized(first, other) for other in (second, third, first)] == [True, True, False]
    assert not is_resized(second, first)
    assert not is_resized(first, replace(second, secret="another"))
    assert not is_resized(second, replace(third, older=[5, 8]))


def test_who_is_configured_as_it_was_before_the_change_may_go_on() -> None:
    def settings(partitions: int) -> Settings:
        return Settings.model_validate(
            {"spool": {"kind": "nats", "servers": ["nats://h"], "partitions": partitions}}
        )

    made = replace(wanted(settings(4), "s"), format=RESIZED_FORMAT, older=[4], partitions=8)
    for partitions in (4, 8):
        check(made, settings(partitions))
    with pytest.raises(UserError, match="partitions is 5 here and 8 there"):
        check(made, settings(5))


@given(st.lists(st.tuples(st.binary(), st.none() | st.binary(min_size=16, max_size=16)), max_size=5))
def test_a_chunk_comes_out_of_its_message_as_it_went_in(given: list[tuple[bytes, bytes | None]]) -> None:
    events, digests = [event for event, _ in given], [digest for _, digest in given]
    digests = [None if digest == bytes(16) else digest for digest in digests]
    headers = {chunk_message.EVENTS: str(len(events))}
    data = chunk_message.encode(events, digests)
    chunk = chunk_message.decode(data, headers, sequence=7, source=1, at=3.0)
    assert (chunk.events, [*chunk.digests], chunk.start, chunk.end) == (events, digests, 7, 8)


@given(st.lists(st.none() | st.text(max_size=2), max_size=12))
def test_an_edge_tells_copies_apart_as_the_window_of_one_process_does(keys: list[str | None]) -> None:
    secret = bytes(range(32))
    found = GroupKeys(secret).claim(keys, 0.0)
    expected = Window(secret, max_count=100).claim(keys, 0.0)
    assert ([*found.digests], found.duplicates, found.copies) == (
        [*expected.digests],
        expected.duplicates,
        expected.copies,
    )


def test_an_edge_hashes_keys_with_the_accelerator_where_there_is_one() -> None:
    digests = GroupKeys(bytes(16)).claim(["a", "b"], 0.0).digests
    assert isinstance(digests, COMPILED or list)


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def record(sequence: int, *, upto: float = 1.0, floor: int = 0, **more: object) -> LoggedRecord:
    made = Record(str(sequence), "w", 0.0, 0.0, upto, Reached(floor), ShareCounts(sequence), **more)  # type: ignore[arg-type]
    return LoggedRecord(sequence, made, 1)


def frozen(name: str, chunk: int, first: int, last: int) -> Frozen:
    keys = b"".join(key(chunk * 100 + at) for at in range(first, last))
    return Frozen(name, 0.0, last - first, b"", [(chunk, pack_positions(range(first, last)))], keys)


def test_a_log_is_read_back_to_what_is_settled_what_is_on_its_way_and_which_keys_are_known() -> None:
    window = StreamWindow(bytes(16), max_age_s=600.0)
    state = restore(
        [
            record(1, frozen=[frozen("a", 1, 0, 3), frozen("b", 1, 3, 6)]),
            record(2, settled=[Settled("a")], floor=0, dismissed=[(2, pack_positions([5]))]),
            # of b the first is resolved, the others go on in c, whose first event then fails
            record(
                3,
                settled=[Settled("b", [(1, pack_positions([3]))], key(104) + key(105))],
                frozen=[frozen("c", 1, 4, 6)],
            ),
            record(4, frozen=[frozen("d", 2, 0, 2)], upto=2.0, letters=[b"x"], free=key(103)),
        ],
        window,
        "sink",
    )
    assert [batch.id for batch in state.open] == ["c", "d"]
    assert state.last_open == 2
    assert state.settled == {1: {0, 1, 2, 3}, 2: {5}}
    states = {number: window.state_of_digest(key(number)) for number in (100, 103, 104, 105, 200, 201, 300)}
    assert states == {
        100: "known",
        103: "new",
        104: "pending",
        105: "pending",
        200: "pending",
        201: "pending",
        300: "new",
    }
    assert (state.letters, state.upto, state.counts.delivered) == ([b"x"], 2.0, 4)


def test_of_letters_that_were_sent_again_an_owner_learns_what_may_have_arrived_and_what_to_store() -> None:
    window = StreamWindow(bytes(16), max_age_s=600.0)
    sent = [SentAgain(name, 5.0, [("one.gave_up.1", 7)]) for name in ("a", "b")]
    done, later = LetterChange("one.gave_up.1", 3), LetterChange("one.gave_up.2", 4, b"letter")
    state = restore(
        [
            record(1, again=[sent[0]]),
            record(2, again_over=["a"], known=key(1), changes=[done], again=[sent[1]]),
            record(3, changes=[later], letters_done=2),
        ],
        window,
        "sink",
    )
    assert state.again == {"b": sent[1]}
    assert state.changes == [later]
    assert window.state_of_digest(key(1)) == "known"
    assert [kept.batches for kept in state.kept] == [["a"], ["b"], []]


def test_an_id_that_comes_again_after_it_was_settled_is_on_its_way_and_what_it_settled_stays() -> None:
    window = StreamWindow(bytes(16), max_age_s=600.0)
    state = restore(
        [
            record(1, frozen=[frozen("a", 1, 0, 2)]),
            record(2, settled=[Settled("a")]),
            record(3, frozen=[frozen("a", 5, 0, 2)]),
        ],
        window,
        "sink",
    )
    assert [(batch.id, batch.segments[0][1]) for batch in state.open] == [("a", 5)]
    assert state.settled == {1: {0, 1}}


def test_the_windows_time_is_that_of_the_stream() -> None:
    window = StreamWindow(bytes(16), max_age_s=10.0)
    window.upto = 100.0
    assert window.take([key(1), None, key(1)], range(3)) == ([0, 1], [], [(2, key(1))])
    assert window.take([key(1)], range(1)) == ([], [], [(0, key(1))])
    window.confirm([key(1)], 1e9)
    window.upto = 105.0
    assert window.take([key(1)], range(1)) == ([], [0], [])
    window.upto = 120.0
    assert window.take([key(1)], range(1)) == ([0], [], [])


def test_copies_in_a_chunk_are_told_by_their_places_among_those_that_are_asked_for() -> None:
    window = StreamWindow(bytes(16))
    window.take([key(1), key(2)], range(2))
    window.confirm([key(2)], 0.0)
    chunk = [key(1), key(3), None, key(2), key(3), key(4), key(5)]
    assert window.take(chunk, [1, 2, 3, 4, 6]) == ([1, 2, 6], [3], [(4, key(3))])
    assert (window.pending, len(window)) == (3, 1)
    assert window.take(chunk, range(7)) == ([2, 5], [3], [(at, chunk[at]) for at in (0, 1, 4, 6)])
