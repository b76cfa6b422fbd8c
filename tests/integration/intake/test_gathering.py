"""Submissions that are taken together, against a model that takes their events one by one."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.core.reasons import Reason
from ingestd.core.submission import AcceptedSubmission, Submission
from ingestd.intake.refusals import event_id
from ingestd.intake.submission_group import GroupPart, SubmissionGroup
from ingestd.processing.dedup import Window
from ingestd.processing.validate import Validator
from ingestd.schemas.interaction import InteractionSchema
from ingestd.schemas.schema import FieldError, Refusal
from ingestd.store.spool import MAX_CHUNK_BYTES
from ingestd.store.trail import owner_at
from tests.each import each
from tests.effort import examples
from tests.integration.intake.support import event

VALIDATOR = Validator(InteractionSchema())
NOW = 1000.0
BARE = len(event(0))
KNOWN, PENDING = range(4), range(4, 8)
"""Numbers of events whose keys are known, or pending, before; the others up to 15 are new."""
MAX_EVENT_BYTES = MAX_CHUNK_BYTES + 2

sizes = st.one_of(
    st.just(BARE),
    st.integers(BARE, 3 * BARE),
    st.sampled_from([1000, MAX_CHUNK_BYTES, MAX_EVENT_BYTES]).flatmap(
        lambda size: st.integers(size - 2, size + 1)
    ),
)


@dataclass(frozen=True)
class Event:
    """An event of about ``size`` bytes; ``key``: its number, None if nobody can tell."""

    kind: str
    number: int
    size: int

    @cached_property
    def raw(self) -> bytes:
        if self.kind == "broken":
            return b"{" + b"x" * (self.size - BARE)
        if self.kind == "invalid":
            return event(self.number, schemaVersion=9)
        return event(self.number, pad=max(0, self.size - len(event(self.number))))

    @property
    def key(self) -> int | None:
        return None if self.kind == "broken" else self.number

    @property
    def valid(self) -> bool:
        return self.kind == "valid" and len(self.raw) <= MAX_EVENT_BYTES


kinds = st.sampled_from(["valid"] * 6 + ["invalid", "broken"])
kinds_of_event = st.builds(Event, kinds, st.integers(0, 15), sizes)
requests = st.lists(
    st.tuples(st.lists(kinds_of_event, max_size=8), st.booleans(), st.sampled_from([0.0, 0.0, 5.0])),
    min_size=1,
    max_size=6,
)


def gather(
    asked: list[tuple[list[Event], bool, float]], max_bytes: int
) -> tuple[SubmissionGroup, list[GroupPart]]:
    window = Window(b"secret")
    known = window.claim([VALIDATOR.key_of(event(number)) for number in KNOWN], NOW)
    window.confirm([digest for digest in known.digests if digest], NOW)
    window.claim([VALIDATOR.key_of(event(number)) for number in PENDING], NOW)
    submissions = [
        Submission(
            [one.raw for one in some],
            lambda result: None,
            sum(len(one.raw) for one in some),
            atomic=atomic,
            producer=["", "shop", "till"][at % 3],
            wait_s=wait_s,
        )
        for at, (some, atomic, wait_s) in enumerate(asked)
    ]
    gathering = SubmissionGroup(submissions)
    for _ in gathering.check(VALIDATOR, window, max_event_bytes=MAX_EVENT_BYTES):
        pass
    pieces = gathering.claim(window, NOW, max_bytes=max_bytes)
    assert window.pending == len(PENDING) + len(gathering.claimed)
    return gathering, pieces


@dataclass
class Expected:
    """``rejected``: positions. ``new``: what goes into the spool, of all submissions in order."""

    accepted: int
    duplicates: int
    rejected: list[int]
    new: list[Event]
    stored: bool = True


def take(some: list[Event], *, atomic: bool, seen: set[int]) -> Expected:
    """One submission, event by event; ``seen``: keys that an earlier event has, known or not."""
    rejected = [at for at, one in enumerate(some) if not one.valid and one.key not in KNOWN]
    if atomic and rejected:
        return Expected(0, 0, rejected, [], stored=False)
    new: list[Event] = []
    duplicates = 0
    for one in some:
        if one.key in seen and (one.valid or one.key in KNOWN):
            duplicates += 1
        elif one.valid and one.key is not None:
            seen.add(one.key)
            new.append(one)
    return Expected(len(new), duplicates, rejected, new)


@settings(max_examples=examples(60))
@given(asked=requests, max_bytes=st.sampled_from([3 * BARE, 1000, MAX_CHUNK_BYTES]))
def test_every_event_is_accepted_a_duplicate_or_rejected_and_only_one_of_these(
    asked: list[tuple[list[Event], bool, float]], max_bytes: int
) -> None:
    gathering, pieces = gather(asked, max_bytes)
    seen = {*KNOWN, *PENDING}
    everything: list[tuple[int, Event]] = []
    for number, (some, atomic, _) in enumerate(asked):
        expected = take(some, atomic=atomic, seen=seen)
        taken = gathering.result(number)
        assert replace(expected, new=[]) == Expected(
            taken.accepted, taken.duplicates, [r.position for r in taken.rejected], [], taken.stored
        )
        if taken.stored:
            assert taken.accepted + taken.duplicates + len(taken.rejected) == len(some)
        everything += [(number, one) for one in expected.new]
    assert_pieces(gathering, pieces, everything, max_bytes)
    told = [gathering.result(number) for number in range(len(asked))]
    rejected = gathering.rejected
    assert len(rejected.events) == rejected.reasons.total() == sum(len(one.rejected) for one in told)
    assert gathering.duplicates.total() == sum(one.duplicates for one in told)


def assert_pieces(
    gathering: SubmissionGroup, pieces: list[GroupPart], new: list[tuple[int, Event]], max_bytes: int
) -> None:
    """The pieces hold what is new, in order, each with its key; who waits shares a chunk with nobody."""
    window = Window(b"secret")
    assert [raw for _, events, *_ in pieces for raw in events] == [one.raw for _, one in new]
    digests = [digest for _, _, digests, _ in pieces for digest in digests]
    assert digests == [window.digest(VALIDATOR.key_of(one.raw) or "") for _, one in new]
    assert sorted(gathering.claimed) == sorted(filter(None, digests))
    owners = [owner for owner, events, *_ in pieces for _ in events]
    waits = [number if gathering.submissions[number].wait_s else None for number, _ in new]
    assert owners == waits
    whose = [owner_at(one, at) for _, events, _, one in pieces for at, _ in enumerate(events)]
    assert whose == [gathering.submissions[number].producer for number, _ in new]
    for _, events, *_ in pieces:
        assert events
        assert len(events) == 1 or sum(map(len, events)) <= max_bytes


def test_a_rejection_names_the_event_by_its_request_its_field_and_what_was_expected() -> None:
    asked = [([Event("valid", 9, BARE)], False, 0.0), ([Event("invalid", 12, BARE)], False, 0.0)]
    gathering, _ = gather(asked, 1000)
    (rejection,) = gathering.result(1).rejected
    assert (rejection.position, rejection.id) == (0, "i-12")
    assert rejection.errors[0]["field"] == "schemaVersion"
    assert "less than or equal to 3" in rejection.errors[0]["message"]


def test_what_is_too_large_for_a_request_is_rejected_before_it_is_stored() -> None:
    large = Event("valid", 9, MAX_EVENT_BYTES + 1)
    gathering, pieces = gather([([large, Event("valid", 10, BARE)], False, 0.0)], MAX_CHUNK_BYTES)
    taken = gathering.result(0)
    assert taken[:2] == (1, 0)
    assert f"{len(large.raw)} bytes" in taken.rejected[0].errors[0]["message"]
    assert [len(events) for _, events, *_ in pieces] == [1]


def test_an_atomic_submission_with_an_invalid_event_claims_no_key() -> None:
    asked = [
        ([Event("valid", 9, BARE), Event("broken", 0, BARE)], True, 0.0),
        ([Event("valid", 9, BARE)], False, 0.0),
    ]
    gathering, pieces = gather(asked, 1000)
    assert not gathering.result(0).stored
    assert gathering.result(1) == AcceptedSubmission(1, 0, [])
    assert len(pieces) == 1


class Spy:
    """A schema that is asked about every event, and remembers their sizes."""

    name, default_key = "spy", ()

    def __init__(self, *, valid: bool) -> None:
        self.asked: list[int] = []
        self._valid = valid

    def keys(self, events: Sequence[bytes]) -> list[str | None]:
        self.asked += map(len, events)
        return [""] * len(events) if self._valid else [None] * len(events)

    def explain(self, event: bytes) -> Refusal | None:
        return None if self._valid else Refusal(Reason.INVALID, [FieldError("f" * 100, "m" * 200)] * 10)


def gather_with(schema: Spy, events: list[bytes]) -> tuple[SubmissionGroup, int]:
    """The gathering, and in how many steps it was checked."""
    gathering = SubmissionGroup([Submission(events, lambda result: None, sum(map(len, events)))])
    window = Window(b"secret")
    pauses = len(list(gathering.check(Validator(schema), window, max_event_bytes=1_000)))
    gathering.claim(window, NOW, max_bytes=MAX_CHUNK_BYTES)
    return gathering, pauses + 1


def test_nothing_is_made_of_an_event_before_its_size_is_judged() -> None:
    schema = Spy(valid=True)
    sizes = [10, 1_001, 1_000, 2_000_000, 20]
    gathering, _ = gather_with(schema, [b"x" * size for size in sizes])
    assert schema.asked == [10, 1_000, 20]
    taken = gathering.result(0)
    assert taken.accepted == 3
    assert [one.position for one in taken.rejected] == [1, 3]


@each("size", [2, 700])
def test_many_events_are_checked_in_steps_that_are_short(size: int) -> None:
    events = [b"x" * size] * 10_000
    _, steps = gather_with(Spy(valid=True), events)
    assert steps >= len(events) / 128
    assert steps >= len(events) * size / 65_536
    _, steps = gather_with(Spy(valid=False), events)
    assert steps > len(events), "a step for each that is explained"


def test_what_is_told_of_rejected_events_is_bounded() -> None:
    gathering, _ = gather_with(Spy(valid=False), [*[b"x" * 10] * 5_000, *[b"y" * 1_001] * 5_000, b"z"])
    taken = gathering.result(0)
    assert [one.position for one in taken.rejected] == list(range(100))
    assert (taken.accepted, taken.unlisted) == (0, 9_901)
    assert len(gathering.rejected.events) == gathering.rejected.reasons.total() == 10_001
    assert max(len(detail) for _, _, detail, _ in gathering.rejected.events) <= 500


def test_the_first_rejected_events_are_told_also_where_they_are_too_large() -> None:
    gathering, _ = gather_with(Spy(valid=False), [*[b"y" * 1_001] * 60, *[b"x"] * 300, b"y" * 1_001])
    assert [one.position for one in gathering.result(0).rejected] == list(range(100))


@each(
    ("event_", "name"),
    [
        (b'{"id":"a"}', "a"),
        (b'{"interactionId":"b","x":[1,{}]}', "b"),
        (b'{"eventId":7}', "7"),
        (b'{"id":{"a":1},"eventId":"c"}', "c"),
        (b'{"id":null,"interactionId":"d"}', "d"),
        (b'{"id":1.5}', None),
        (b'{"id":"%b"}' % (b"e" * 500), "e" * 200),
        (b'["id"]', None),
        (b'{"id":"a"', None),
        (b'{"id":"' + b"a" * 1_100_000 + b'"}', None),
    ],
)
def test_the_id_for_an_answer_is_read_without_the_rest(event_: bytes, name: str | None) -> None:
    assert event_id(event_) == name


def test_to_read_the_id_of_a_crowded_event_makes_nothing_of_the_crowd() -> None:
    crowd = b'{"x":[' + b"[]," * 300_000 + b'1],"id":"a"}'
    tracemalloc.start()
    try:
        assert event_id(crowd) == "a"
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
