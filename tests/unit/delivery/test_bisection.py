"""Finding the events that a refusal is about, against an API that refuses without naming any."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Batch
from ingestd.delivery.bisection import Bisection, BisectionStep
from tests.ids import new_id


@dataclass
class Api:
    """Refuses every batch with a bad event in it. ``buried``: (event, alone or in a group)."""

    bad: Callable[[int], bool]
    requests: list[list[int]] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)
    buried: list[tuple[int, str]] = field(default_factory=list)

    def search(self, count: int, *, expect_all: bool = False, last_first: bool = False) -> Bisection:
        """Send a batch of ``count`` events and do what the bisection says, to the end."""
        whole = Batch([b"%d" % n for n in range(count)], [None] * count, [], new_id=new_id)
        bisection = Bisection(expect_all=expect_all)
        queue = deque([whole])
        while queue:
            part = queue.pop() if last_first else queue.popleft()
            numbers = [int(event) for event in part.events]
            self.requests.append(numbers)
            if any(map(self.bad, numbers)):
                step = bisection.refused(part)
            else:
                self.delivered += numbers
                step = bisection.accepted(part)
            self._follow(step, queue)
        return bisection

    def _follow(self, step: BisectionStep, queue: deque[Batch]) -> None:
        for parent, parts in step.cuts:
            assert sorted(e for part in parts for e in part.events) == sorted(parent.events)
        queue.extend(step.send)
        self.buried += [(int(event), "alone") for part in step.rejected for event in part.events]
        self.buried += [(int(event), "group") for part in step.untried for event in part.events]


@given(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))),
    st.booleans(),
    st.booleans(),
)
def test_every_event_has_one_end_and_only_bad_ones_are_buried_while_any_sample_is_good(
    case: tuple[int, set[int]], expect_all: bool, last_first: bool
) -> None:
    count, bad = case
    api = Api(bad.__contains__)
    bisection = api.search(count, expect_all=expect_all, last_first=last_first)
    assert sorted(api.delivered + [n for n, _ in api.buried]) == list(range(count))
    assert not bad & set(api.delivered)
    if not bisection.gave_up:
        assert sorted(api.buried) == [(n, "alone") for n in sorted(bad)]
        assert bisection.found_good or len(bad) == count


@given(
    st.integers(2, 1000).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=6)))
)
def test_a_few_bad_events_are_each_buried_alone_in_few_requests(case: tuple[int, set[int]]) -> None:
    count, bad = case
    if not bad or len(bad) > count // 4:
        return
    api = Api(bad.__contains__)
    bisection = api.search(count)
    assert not bisection.gave_up
    assert sorted(api.buried) == [(n, "alone") for n in sorted(bad)]
    assert sorted(api.delivered) == sorted(set(range(count)) - bad)
    samples = 40  # taken where the bad ones lie so that none of the first eighths is accepted
    assert len(api.requests) <= 1 + 2 * len(bad) * math.ceil(math.log2(count)) + samples


def test_one_bad_event_of_a_thousand_costs_two_requests_for_each_halving() -> None:
    api = Api(lambda n: n == 617)
    api.search(1000)
    assert api.buried == [(617, "alone")]
    assert len(api.requests) <= 1 + 2 * 10


def test_a_batch_refused_to_its_last_event_is_given_up_after_singles_from_all_over_it() -> None:
    api = Api(lambda n: True)
    bisection = api.search(1000)
    assert bisection.gave_up
    assert not bisection.found_good
    assert sorted(n for n, _ in api.buried) == list(range(1000))
    alone = sorted(n for n, kind in api.buried if kind == "alone")
    assert len(alone) == 32
    assert sorted([n] for n in alone) == sorted(r for r in api.requests if len(r) == 1)
    assert {n // 125 for n in alone} == set(range(8)), "every eighth of the batch was asked about"
    assert len(api.requests) == 1 + 2 + 4 + 8 + 32


def test_the_next_batch_of_a_stream_that_is_refused_begins_with_a_few_singles() -> None:
    api = Api(lambda n: True)
    bisection = api.search(1000, expect_all=True)
    assert bisection.gave_up
    assert [len(request) for request in api.requests] == [1000] + 8 * [1]
    assert len({n // 125 for (n,) in api.requests[1:]}) == 8


def test_one_good_single_ends_the_expectation_that_all_are_bad() -> None:
    api = Api(lambda n: n != 0)
    bisection = api.search(200, expect_all=True)
    assert bisection.found_good
    assert not bisection.gave_up
    assert api.delivered == [0]
    assert sorted(api.buried) == [(n, "alone") for n in range(1, 200)]


def test_small_batches_are_always_taken_apart() -> None:
    api = Api(lambda n: True)
    bisection = api.search(16)
    assert not bisection.gave_up
    assert sorted(api.buried) == [(n, "alone") for n in range(16)]


def test_a_part_that_ended_otherwise_does_not_keep_what_is_held_back() -> None:
    bisection = Bisection()
    step = bisection.refused(Batch([b"%d" % n for n in range(400)], [None] * 400, [], new_id=new_id))
    held = 0
    while all(len(part) > 1 for part in step.send):
        following = [bisection.refused(part) for part in step.send[:-1]]
        following.append(
            bisection.ended(step.send[-1])
        )  # given up for its age, or too big: no word on refusal
        held += len(step.send) - 1
        step = BisectionStep(send=[part for s in following for part in s.send])
        assert step.send, "the search stopped with parts held back"
    assert {len(part) for part in step.send} == {1}
