"""What may go when order is asked for, step by step, and how batches are cut then. Without a loop."""

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Batch, Chunk, Segment
from ingestd.delivery.bisection import Bisection, BisectionStep, group, halve
from ingestd.delivery.key_order import KeyOrder
from ingestd.schemas.key_paths import KeyWatch
from tests.ids import new_id
from tests.integration.delivery.order_support import keyed, keyed_batches, order_by
from tests.integration.delivery.support import event, make_batch

KEYS = st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=12)


def make_order(*, max_events: int = 10, max_bytes: int = 1000, one_per_key: bool = False) -> KeyOrder:
    return KeyOrder(
        order_by, max_events=max_events, max_bytes=max_bytes, one_per_key=one_per_key, new_id=new_id
    )


def numbers(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [int(digest) for digest in batch.digests if digest]


@given(st.lists(KEYS, max_size=10), st.booleans(), st.integers(0, 2**32))
def test_each_event_is_counted_once_whether_it_has_a_key_and_whatever_is_held_or_cut(
    keys: list[list[str]], one_per_key: bool, seed: int
) -> None:
    rng, watch = random.Random(seed), KeyWatch("delivery.order_by", "note")
    order = KeyOrder(
        order_by, max_events=4, max_bytes=1000, one_per_key=one_per_key, watch=watch, new_id=new_id
    )
    fresh, out = keyed_batches(keys), list[Batch]()
    while fresh or out or order.ready:
        if out and (rng.random() < 0.5 or not (fresh or order.ready)):
            out += order.resolved(out.pop(rng.randrange(len(out))), [])
            continue
        taken = order.take() if rng.random() < 0.5 or not fresh else order.admit(fresh.pop(0))
        if rest := order.take_rest():
            fresh.insert(0, rest)
        out += [taken] if taken else []
    everything = [key for some in keys for key in some]
    assert (watch.events, watch.without) == (len(everything), everything.count(""))


@given(st.lists(KEYS, max_size=10), st.booleans(), st.integers(0, 2**32))
def test_whatever_ends_when_no_two_open_batches_share_a_key_and_all_go_in_order(
    keys: list[list[str]], one_per_key: bool, seed: int
) -> None:
    rng = random.Random(seed)
    order = make_order(max_events=4, one_per_key=one_per_key)
    fresh, out, done = keyed_batches(keys), list[Batch](), list[int]()
    first_out: dict[str, list[int]] = {}
    key_by_number = dict(enumerate(key for some in keys for key in some))
    while fresh or out or order.ready:
        if out and (rng.random() < 0.5 or not (fresh or order.ready)):
            batch = out.pop(rng.randrange(len(out)))
            if len(batch) > 1 and rng.random() < 0.3:
                first, second, in_turn = halve(batch, order.keys_of)
                assert order.resolved(batch, [first, second]) == []
                out += [part for part in (first, second) if order.may_go(part)]
                assert in_turn == (second not in out)
            else:
                done += numbers(batch)
                out += order.resolved(batch, [])
        else:
            taken = order.take() if rng.random() < 0.7 or not fresh else order.admit(fresh.pop(0))
            if rest := order.take_rest():
                fresh.insert(0, rest)
            if taken is not None:
                assert not one_per_key or len(set(filter(None, order.keys_of(taken.events)))) == sum(
                    key is not None for key in order.keys_of(taken.events)
                )
                out.append(taken)
                for number in numbers(taken):
                    first_out.setdefault(key_by_number[number], []).append(number)
        open_keys = [key for batch in out for key in set(order.keys_of(batch.events)) if key]
        assert len(open_keys) == len(set(open_keys))
    assert sorted(done) == sorted(key_by_number)
    assert all(some == sorted(some) for key, some in first_out.items() if key)
    for key in {"a", "b", "c"}:
        ends = [number for number in done if key_by_number[number] == key]
        assert ends == sorted(ends)
    assert (order.held_events, order.held_bytes, order.leftovers()) == (0, 0, [])


def test_what_was_held_goes_as_full_batches_with_the_places_its_events_came_from() -> None:
    order = make_order(max_events=3)
    chunk = Chunk([b'{"note":"a","n":%d}' % n for n in range(10)], source=7, start=0, end=1)
    busy = order.admit(Batch(chunk.events[:1], [b"0"], [Segment(chunk, range(1))], new_id=new_id))
    digests: list[bytes | None] = [b"%d" % n for n in range(1, 10)]
    assert (
        order.admit(Batch(chunk.events[1:], digests, [Segment(chunk, range(1, 10))], new_id=new_id)) is None
    )
    assert order.held_events == 9
    assert busy is not None
    order.resolved(busy, [])
    sent: list[list[int]] = []
    while batch := order.take():
        assert order.take() is None, "its key is busy again"
        [segment] = batch.segments
        assert segment.chunk is chunk
        sent.append(list(segment.positions))
        order.resolved(batch, [])
    assert sent == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_of_a_key_all_that_is_held_goes_in_one_batch_if_there_is_room_in_one() -> None:
    """So a batch that spans chunks is whole again after a crash before a later event of its keys is read."""
    order = make_order(max_events=3)
    busy = order.admit(keyed("abc"))
    assert busy is not None
    assert order.admit(keyed("aabbc", first=3)) is None
    order.resolved(busy, [])
    sent = [set(numbers(order.take())), set(numbers(order.take()))]
    assert order.take() is None
    assert {3, 4} in sent or {3, 4, 7} in sent
    assert {5, 6} in sent or {5, 6, 7} in sent


def test_a_held_batch_is_no_longer_than_the_api_takes() -> None:
    order = make_order()
    size = len(keyed(["a"]).events[0]) + 1
    assert order.admit(keyed(["a"])) is not None
    for batch in keyed_batches([["a"]] * 9)[1:]:
        assert order.admit(batch) is None
    order.learn(size * 3)
    left = order.leftovers()
    assert [len(batch) for batch in left] == [3, 3, 2]


def test_events_of_two_sources_never_share_a_batch() -> None:
    """One may be read again after a crash while the other's events are kept."""
    order = make_order()
    busy = order.admit(keyed("ab"))
    assert busy is not None
    for number, source in enumerate([1, 2], start=2):
        batch = keyed("ab"[number - 2], first=number)
        batch.segments[0].chunk.source = source
        assert order.admit(batch) is None
    order.resolved(busy, [])
    batches = [order.take(), order.take()]
    assert sorted(numbers(batch)[0] for batch in batches) == [2, 3]
    assert order.take() is None


def test_a_key_that_is_in_several_sources_goes_in_a_batch_of_each_in_its_order() -> None:
    """As in partitions of a topic, of which one may be another process's when the batch is made again."""
    order = make_order()
    busy = order.admit(keyed("ab"))
    assert busy is not None
    for number, (key, source) in enumerate([("b", 1), ("a", 1), ("a", 1), ("a", 2), ("a", 1)], start=2):
        batch = keyed(key, first=number)
        batch.segments[0].chunk.source = source
        assert order.admit(batch) is None
    order.resolved(busy, [])
    sent: list[list[int]] = []
    while batch := order.take():
        assert len({segment.chunk.source for segment in batch.segments}) == 1
        sent.append(numbers(batch))
        order.resolved(batch, [])
    assert sorted(sent) == [[2], [3, 4], [5], [6]]
    assert [some for some in sent if some != [2]] == [[3, 4], [5], [6]]
    assert order.held_events == order.held_bytes == 0


def test_a_batch_that_may_have_arrived_is_never_cut_and_waits_whole() -> None:
    order = make_order()
    busy = order.admit(keyed("a"))
    resend = keyed("ab", first=1)
    resend.ambiguous = True
    assert order.admit(resend) is None
    assert order.admit(keyed("b", first=3)) is None, "it comes after the resend"
    assert busy is not None
    assert order.resolved(busy, []) == [resend]
    assert order.take() is None
    order.resolved(resend, [])
    assert numbers(order.take()) == [3]


def test_a_key_is_remembered_short_however_long_it_is() -> None:
    order = make_order()
    [short, long, other] = order.keys_of(keyed(["x" * 64, "y" * 100_000, "z" * 65]).events)
    assert short == "x" * 64
    assert isinstance(long, bytes)
    assert len(long) == 16
    assert other != long


def test_events_without_the_key_wait_for_nobody() -> None:
    order = make_order()
    plain = Batch([b'{"n":1}', b'{"note":null}', b"[]"], [None] * 3, [], new_id=new_id)
    assert order.admit(plain) is plain
    again = Batch([b'{"n":1}'], [None], [], new_id=new_id)
    assert order.admit(again) is again


@given(KEYS.filter(lambda keys: len(keys) > 1))
def test_halves_share_no_key_unless_there_is_only_one(keys: list[str]) -> None:
    batch, keys_of = keyed(keys), make_order().keys_of
    first, second, in_turn = halve(batch, keys_of)
    assert len(first)
    assert len(second)
    assert sorted(numbers(first) + numbers(second)) == numbers(batch)
    assert numbers(first) == sorted(numbers(first))
    assert numbers(second) == sorted(numbers(second))
    shared = set(keys_of(first.events)) & set(keys_of(second.events)) - {None}
    assert bool(shared) == in_turn == (len(group(batch, keys_of)) == 1)
    if in_turn:
        assert numbers(first)[-1] < numbers(second)[0]


class Search:
    """Sends the parts of a refused batch to an API that refuses every part with a bad event in it."""

    def __init__(self, keys: list[str], bad: set[int], rng: random.Random, *, expect_all: bool) -> None:
        self.keys, self.bad, self.rng = keys, bad, rng
        self.requests = 0
        self.delivered: list[int] = []
        self.alone: list[int] = []
        self.untried: list[int] = []
        self.ends: list[int] = []
        self.out: list[Batch] = [keyed(keys)]
        self.bisection = Bisection(expect_all=expect_all, keys_of=make_order().keys_of)

    def run(self) -> None:
        while self.out:
            part = self.out.pop(self.rng.randrange(len(self.out)))
            self.requests += 1
            if self.bad & set(numbers(part)):
                self._follow(self.bisection.refused(part))
            else:
                self.delivered += numbers(part)
                self.ends += numbers(part)
                self._follow(self.bisection.accepted(part))
        assert self.bisection.take_held() == []

    def _follow(self, step: BisectionStep) -> None:
        for parent, parts in step.cuts:
            assert sorted(n for part in parts for n in numbers(part)) == sorted(numbers(parent))
            assert all(len(part) for part in parts)
        self.alone += [n for part in step.rejected for n in numbers(part)]
        self.untried += [n for part in step.untried for n in numbers(part)]
        self.ends += [n for part in (*step.rejected, *step.untried) for n in numbers(part)]
        self.out += step.send
        open_keys = [k for part in self.out for k in {self.keys[n] for n in numbers(part)} if k]
        assert len(open_keys) == len(set(open_keys)), "two parts of one key are out"


@given(
    st.integers(1, 400),
    st.sampled_from([["a"], ["a", "b"], ["", "a", "b"], [f"k{n}" for n in range(60)]]),
    st.sampled_from([0.01, 0.2, 0.9, 1.0]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_the_search_for_bad_events_ends_and_keeps_the_order_of_each_key(
    count: int, names: list[str], share: float, expect_all: bool, seed: int
) -> None:
    rng = random.Random(seed)
    keys = rng.choices(names, k=count)
    bad = {n for n in range(count) if rng.random() < share} or {0}
    search = Search(keys, bad, rng, expect_all=expect_all)
    search.run()
    assert sorted(search.ends) == list(range(count))
    assert set(search.alone) <= bad
    for key in set(names) - {""}:
        ends = [n for n in search.ends if keys[n] == key]
        assert ends == sorted(ends)
    if not search.bisection.gave_up:
        assert set(search.alone) == bad
    if share == 1.0 and count >= 300:
        assert search.requests < count, "where everything is refused, not every event is tried"


def test_good_events_behind_a_long_bad_stretch_of_the_same_key_are_found() -> None:
    search = Search(["a"] * 800, set(range(90)), random.Random(1), expect_all=False)
    search.run()
    assert search.delivered == list(range(100, 800)), "an eighth is given up, not the whole"
    assert search.untried == list(range(32, 100))


def test_without_keys_a_batch_is_cut_in_the_middle() -> None:
    first, second, in_turn = halve(make_batch(range(5)), None)
    assert (len(first), len(second), in_turn) == (2, 3, False)


def of_chunks(keys: Sequence[str], size: int) -> Batch:
    """One batch of events numbered from 0, of chunks of ``size``."""
    events = [event(number, key) for number, key in enumerate(keys)]
    segments: list[Segment] = []
    for start in range(0, len(events), size):
        some = events[start : start + size]
        segments.append(Segment(Chunk(some, source=1, start=start, end=start + size), range(len(some))))
    return Batch(events, [b"%016d" % number for number in range(len(events))], segments, new_id=new_id)


@given(
    st.lists(st.sampled_from(["", *"abcdefgh"]), min_size=1, max_size=40),
    st.integers(1, 8),
    st.integers(1, 9),
    st.integers(0, 2**32),
)
def test_one_of_a_key_what_goes_together_is_whole_after_a_crash_before_what_was_held_is_read(
    keys: list[str], size: int, most: int, seed: int
) -> None:
    """Files are read again chunk by chunk: a batch is whole when the last chunk of it has been read."""
    order, rng = make_order(max_events=most, one_per_key=True), random.Random(seed)
    fresh, out, sent = [of_chunks(keys, size)], list[Batch](), list[int]()
    while fresh or order.ready or out:
        batch = order.take() or (order.admit(fresh.pop(0)) if fresh else None)
        if rest := order.take_rest():
            fresh.insert(0, rest)
        if batch:
            mine = numbers(batch)
            sent += mine
            for later in set(range(len(keys))).difference(sent):
                if keys[later] and keys[later] in {keys[number] for number in mine}:
                    assert later // size >= max(mine) // size, f"{later} would overtake {mine}"
            out.append(batch)
        while out and (rng.random() < 0.3 or not (fresh or order.ready)):
            order.resolved(out.pop(rng.randrange(len(out))), [])
    assert sorted(sent) == list(range(len(keys)))
