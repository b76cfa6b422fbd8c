"""The accelerator against what it takes the place of: the same verdicts, keys, digests and pieces, or none.

Without it there is nothing to test; ``.ci/run`` builds it and runs this.
"""

import itertools
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ingestd.core import accelerator
from ingestd.core.chunk import frame, packed_events, packed_keys, size_of
from ingestd.core.receipt import known_keys
from ingestd.core.sequences import joined, lengths_of, of_part, pick, pick_keys, together, without
from ingestd.delivery.queues import _fit_of
from ingestd.processing.dedup import KeyTable
from ingestd.processing.validate import Validator
from ingestd.schemas.event_limits import EventLimits, LimitedSchema
from ingestd.schemas.interaction import InteractionSchema
from ingestd.sources.files.lines import _has_returns, _tidied
from tests.effort import examples

compiled: Any = accelerator.compiled
pytestmark = pytest.mark.skipif(compiled is None, reason="the accelerator is not installed, or is off")

SECRET = b"sixteen bytes 16"
LIMITS = EventLimits(max_depth=8, max_values=600)


def events_of(lines: list[bytes]) -> Any:
    """As they come from a file. A line has no newline in it."""
    events, tail = compiled.split_lines(b"".join(line + b"\n" for line in lines))
    assert (list(events), tail) == (lines, b"")
    return events


# --- events: valid ones, of every shape that JSON allows, and such as are broken in one place ---

TEXTS = st.text(max_size=40) | st.text('ab \x7f\x80\x9f\xa0"\\/\u2028\ud7ff\ue000\U0001f600', max_size=12)
NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=50) | TEXTS
ACTIONS = st.sampled_from(["ANSWER", "TRANSFER", "DISCONNECT", "QUEUE", "REQUEUE", "PARK", "answer", ""])
CLOCKS = r"[Tt ][0-2]\d:[0-6]\d:[0-6]\d(\.\d{0,12})?([Zz]|[+-][0-2]\d:?[0-6]\d)?"
UNCOMMON = ["2016-12-31T23:59:60Z", "2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z"]
TIMES = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.from_regex(r"\d{4}-[01]\d-[0-3]\d" + CLOCKS, fullmatch=True),
    st.sampled_from([*UNCOMMON, "0000-01-01T00:00:00Z", "yesterday"]),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXTS
    | st.sampled_from([10**299, 10**310]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    routing = {"queueId": draw(TEXTS), "skill": draw(TEXTS), "actionType": draw(ACTIONS)}
    event = {
        "eventType": draw(NAMES),
        "eventTime": draw(TIMES),
        "interactionId": draw(NAMES),
        "routingMetadata": routing,
        "schemaVersion": draw(st.sampled_from([1, 2, 3, 0, 4, 1.0, True, "1", None])),
        "attributes": draw(st.dictionaries(TEXTS, VALUES, max_size=4) | VALUES),
    }
    for members in (event, routing):
        for name in draw(st.sets(st.sampled_from(sorted(members)), max_size=1)):
            members[name] = draw(VALUES)
        if draw(st.integers(0, 5)) == 0:
            del members[draw(st.sampled_from(sorted(members)))]
    event |= draw(st.dictionaries(TEXTS, VALUES, max_size=2))
    names = draw(st.permutations(sorted(event)))
    return {name: event[name] for name in names}


PIECES = [b"", b",", b":", b'"', b"\\", b"{", b"}", b"[", b"]", b"0", b"-", b"1e5", b"01", b"1.", b".5"]
PIECES += [b"null", b"NaN", b" ", b"\t", b"\r", b"\x00", b"\x1f", b"\x7f", b"9" * 310, b"[" * 12 + b"]" * 12]
PIECES += [b"\xff", b"\xc2\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf"]
PIECES += [rb"\u0041", rb"\ud83d\ude00", rb"\ud83d", rb"\u00", rb"\x"]
PIECES += [b'"eventType":"x",', rb'"e\u0076entType":1,', b'"schemaVersion":1,', b'"skill":"",']


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    style = draw(st.sampled_from([{}, {"ensure_ascii": False}, {"indent": None, "separators": (",", ":")}]))
    text = json.dumps(draw(objects()), **style).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.integers(0, 3))
        text = text[:at] + draw(st.sampled_from(PIECES)) + text[at + gone :]
    return text.replace(b"\n", b" ")


VALID = (
    b'{"eventType":"a","eventTime":"2026-01-01T10:00:00Z","interactionId":"i","routingMetadata":{"queueId":"q",'
    b'"skill":"s","actionType":"ANSWER"},"attributes":{"a":[1,-0.5e+3,"\\u00e9",null,true,false,{}]},'
    b'"schemaVersion":1}'
)


def check(batch: list[bytes]) -> int:
    """Holds verdicts and keys to the definition, and to those of each event alone; how many were accepted."""
    schema, plain = InteractionSchema(), LimitedSchema(InteractionSchema(), LIMITS)
    found = list(events_of(batch).interaction_keys(*LIMITS))
    assert found == [key for event in batch for key in events_of([event]).interaction_keys(*LIMITS)]
    looked_at = events_of(batch)
    looked_at.look_ahead(*LIMITS, SECRET)
    ahead = looked_at.interaction_keys(*LIMITS)
    digests, *_ = compiled.KeyTable(SECRET, 100, 10.0).claim(ahead, 0.0)
    plain_digests, *_ = KeyTable(SECRET, 100, 10.0).claim(found, 0.0)
    assert (list(ahead), list(digests)) == (found, plain_digests)
    for event, key in zip(batch, found, strict=True):
        if key is not None:
            assert plain.explain(event) is None, event
            assert [key] == schema.keys_within([event], LIMITS), event
    assert list(plain.keys(events_of(batch))) == plain.keys(batch)
    key_of = Validator(plain).key_of
    for event, (refusal, key) in zip(batch, plain.usual(events_of(batch), range(len(batch))), strict=True):
        assert refusal is None or refusal == plain.explain(event), event
        assert key is None or (key or None) == key_of(event), event
    return sum(key is not None for key in found)


@given(st.lists(lines(), max_size=6))
@settings(max_examples=examples(100))
def test_it_accepts_nothing_that_the_definition_refuses_and_gives_the_same_keys(batch: list[bytes]) -> None:
    check(batch)


@given(st.integers(0, len(VALID)), st.integers(0, 2), st.sampled_from(PIECES) | st.binary(max_size=3))
@settings(max_examples=examples(300))
def test_so_it_is_of_an_event_that_is_changed_in_one_place(at: int, gone: int, piece: bytes) -> None:
    changed = (VALID[:at] + piece + VALID[at + gone :]).replace(b"\n", b" ")
    check([changed, VALID, changed])


@st.composite
def alike(draw: st.DrawFn) -> list[bytes]:
    """Events of a few shapes, most of which are changed in a place or two."""
    shapes = draw(st.lists(lines() | st.just(VALID), min_size=1, max_size=6))
    batch = []
    for text in draw(st.lists(st.sampled_from(shapes), min_size=2, max_size=24)):
        changed = text
        for _ in range(draw(st.integers(0, 2))):
            at, gone = draw(st.integers(0, len(changed))), draw(st.integers(0, 2))
            piece = draw(st.sampled_from(PIECES) | st.sampled_from([b"a", b"2", b"true", b'""', b"x" * 40]))
            changed = changed[:at] + piece + changed[at + gone :]
        batch.append(changed.replace(b"\n", b" "))
    return batch


@given(alike())
@settings(max_examples=examples(300))
def test_what_came_before_an_event_changes_nothing_about_it(batch: list[bytes]) -> None:
    """What stands between the values of one is only compared in the next."""
    check(batch)


@given(
    st.lists(st.sampled_from(["1", "-0.5e+3", "true", "null", '"a"', '"\\u00e9"', "{}", "[]"]), max_size=40)
)
@settings(max_examples=examples(50))
def test_events_that_differ_in_their_values_alone_are_accepted(values: list[str]) -> None:
    """However often their shapes change: what has none that is known is looked at all the same."""
    assert check([VALID.replace(b"{}", value.encode()) for value in values]) == len(values)


def test_it_accepts_what_nearly_all_events_are() -> None:
    """Else all of the above would hold of one that accepts nothing."""
    spaced = json.dumps(json.loads(VALID), separators=(" ,\t", " : ")).encode()
    precise = VALID.replace(b"00Z", b"00.123456789+05:30")
    deep = VALID.replace(b"{}", b'{"a":' * 5 + b"1" + b"}" * 5)
    assert check([VALID, spaced, precise, deep, VALID.replace(b'"attributes"', b'"other"')]) == 5
    assert check([VALID.replace(b"{}", b"[" * 9 + b"]" * 9), VALID + b" " * 600, VALID[:-1], b"", b"{"]) == 0


def test_it_knows_why_the_usual_ones_are_refused() -> None:
    """Else what it says would never be held to the definition."""
    other = {
        b'"schemaVersion":1': b'"schemaVersion":9',
        b'"ANSWER"': b'"PARK"',
        b'"q"': b"7",
        b'"a",': b"null,",
    }
    other |= {b'"interactionId":"i",': b"", b"2026-01-01T": b"2026-01-01 at ", b'"s"': b'{"a":[]}'}
    changed = [VALID.replace(old, new, 1) for old, new in other.items()]
    check(changed)
    found = LimitedSchema(InteractionSchema(), LIMITS).usual(events_of(changed), range(len(changed)))
    assert all(refusal for refusal, _ in found)
    assert [key == "" for _, key in found] == [old in (b'"a",', b'"interactionId":"i",') for old in other]


def test_it_knows_what_is_cut_off_or_not_utf8() -> None:
    """Wherever that is: what it says is held to the definition, and it says it of nearly all of them."""
    plain = VALID.replace(b'"\\u00e9",', b"")
    cut = [plain[:end] for end in range(1, len(plain))]
    broken = [
        plain[:at] + byte + plain[at:]
        for at in range(len(plain))
        for byte in (b"\xff", b"\xe2\x82", b"\xed\xa0")
    ]
    for batch, least in ((cut, 0.8), (broken, 0.5)):
        check(batch)
        found = LimitedSchema(InteractionSchema(), LIMITS).usual(events_of(batch), range(len(batch)))
        assert sum(refusal is not None for refusal, _ in found) > least * len(batch)


# --- sequences ---

LINES = st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=12)


@given(st.lists(LINES, max_size=4), st.data())
@settings(max_examples=examples(100))
def test_its_sequences_are_those_of_python(parts: list[list[bytes]], data: st.DataObject) -> None:
    plain = list(itertools.chain.from_iterable(parts))
    events = joined([events_of(part) if at % 2 else together(part) for at, part in enumerate(parts)])
    assert (list(events), len(events), size_of(events)) == (plain, len(plain), size_of(plain))
    some = sorted(data.draw(st.sets(st.integers(0, len(plain) - 1)))) if plain else []
    first, last = data.draw(st.integers(-20, 20)), data.draw(st.integers(-20, 20) | st.none())
    framed: list[Callable[[Any], Any]] = [
        lambda one: list(pick(one, some)),
        lambda one: list(without(one, some)),
        lambda one: list(one[first:last]),
        lambda one: list(pick(one[first:last], range(len(one[first:last])))),
        lambda one: list(_tidied(one, returns=_has_returns(one, b"\n".join(plain)))),
        lambda one: frame(b"{[", b",", b"]}", one),
        lambda one: frame(b"[", b",", b"]", without(one, some)),
        lambda one: [frame(b"", between, b"", pick(one, some)) for between in (b"", b"\n", b", ")],
        packed_events,
        lambda one: [one[index] for index in some],
        lambda one: lengths_of(one, some),
        lambda one: [one[index - len(one)] for index in some],
    ]
    for do in framed:
        assert do(events) == do(plain)
    limits = data.draw(st.tuples(st.integers(-5, 300), st.integers(0, 3), st.integers(0, 20)))
    for at in range(len(plain)):
        assert _fit_of(events, None)(at, *limits) == _fit_of(plain, None)(at, *limits)
    for index in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            events[index]


@given(
    st.lists(st.text(' \t\r\n"a\xa0', max_size=8), max_size=8).map(lambda texts: "\n".join(texts).encode())
)
@settings(max_examples=examples(50))
def test_lines_of_a_body_are_trimmed_as_in_python(body: bytes) -> None:
    stripped = [line.strip(b" \t\r\n") for line in body.split(b"\n")]
    assert list(compiled.trimmed_lines(body)) == [line for line in stripped if line]


@given(st.lists(st.none() | st.sampled_from([b"a" * 16, b"b" * 16, b"\0" * 15 + b"c"]), max_size=12))
@settings(max_examples=examples(50))
def test_so_are_its_digests(plain: list[bytes | None]) -> None:
    keys = [None if one is None else f"{number} {one!r}" for number, one in enumerate(plain)]
    digests, _, _ = compiled.KeyTable(SECRET, 100, 10.0).claim(keys, 0.0)
    plain = list(digests)
    assert list(known_keys(digests)) == known_keys(plain)
    assert packed_keys(digests) == packed_keys(plain)
    assert packed_keys(digests, missing=bytes(16)) == packed_keys(plain, missing=bytes(16))
    assert list(joined([digests, digests])) == plain + plain
    assert list(digests[1:3]) == plain[1:3]


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
@settings(max_examples=examples(50))
def test_its_checksum_is_that_of_zlib(data: bytes, before: int) -> None:
    assert compiled.crc32(data, before) == zlib.crc32(data, before)


# --- the window ---

KEYS = [f"key {number}" for number in range(40)]
some_keys = st.lists(st.sampled_from([*KEYS, "", None]), max_size=12)


class TablesSideBySide(RuleBasedStateMachine):
    """Whatever is done to both, in whatever order: what they say is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.plain = KeyTable(SECRET, 20, 64.0)
        self.other = compiled.KeyTable(SECRET, 20, 64.0)
        self.claimed = [compiled.KeyTable(SECRET, 20, 64.0).claim(KEYS, 0.0)[0]]  # places in another table

    def both(self, do: Callable[[Any], Any]) -> None:
        assert do(self.other) == do(self.plain)

    def digests(self, keys: list[str | None]) -> list[bytes]:
        return [self.plain.digest(key) for key in keys if key]

    @rule(passed=st.sampled_from([0.5, 4.0, 30.0, 70.0]))
    def time_passes(self, passed: float) -> None:
        self.now += passed

    @rule(keys=some_keys)
    def claim(self, keys: list[str | None]) -> None:
        def do(table: Any) -> Any:
            digests, duplicates, copies = table.claim(keys, self.now)
            if table is self.other:
                self.claimed.append(digests)
            return list(digests), duplicates, copies

        self.both(do)

    @rule(keys=some_keys, leave=st.integers(0, 3))
    def claim_digests(self, keys: list[str | None], leave: int) -> None:
        digests = [self.plain.digest(key) if key else None for key in keys]
        positions = [at for at in range(len(digests)) if at != leave]
        self.both(lambda table: table.claim_digests(digests, positions, self.now))
        self.both(lambda table: table.claim_digests(digests, range(len(digests)), self.now))

    @rule(numbers=st.lists(st.integers(0, 99), max_size=3), first=st.integers(0, 3), leave=st.integers(0, 3))
    def confirm_what_was_claimed(self, numbers: list[int], first: int, leave: int) -> None:
        """These know where they were in the table: it may have been moved, freed and claimed again since."""
        parts = [self.claimed[number % len(self.claimed)][first:] for number in numbers]
        parts = [without(part, [leave]) if leave < len(part) else part for part in parts]
        digests = known_keys(joined([*parts, *(pick(part, range(0, len(part), 2)) for part in parts[:1])]))
        plain = [bytes(digest) for digest in digests]
        self.both(lambda table: table.confirm(digests if table is self.other else plain, self.now))

    @rule(keys=some_keys)
    def confirm(self, keys: list[str | None]) -> None:
        self.both(lambda table: table.confirm(self.digests(keys), self.now))

    @rule(keys=some_keys)
    def release(self, keys: list[str | None]) -> None:
        self.both(lambda table: table.release(self.digests(keys)))

    @rule(keys=some_keys)
    def forget(self, keys: list[str | None]) -> None:
        self.both(lambda table: table.forget(self.digests(keys)))

    @rule(keys=some_keys)
    def reclaim(self, keys: list[str | None]) -> None:
        self.both(lambda table: table.reclaim(self.digests(keys)))

    @rule(keys=some_keys, age=st.sampled_from([0.0, 10.0, 65.0]))
    def restore(self, keys: list[str | None], age: float) -> None:
        self.both(lambda table: table.restore(self.digests(keys), self.now - age, self.now))

    @invariant()
    def they_agree(self) -> None:
        digests = self.digests([*KEYS])

        def do(table: Any) -> Any:
            each = [(table.is_pending(digest), table.has(digest)) for digest in digests]
            return len(table), table.pending, each, table.settled(dict.fromkeys(digests))

        self.both(do)


TablesSideBySide.TestCase.settings = settings(max_examples=examples(60))
TestTables = TablesSideBySide.TestCase


@pytest.mark.parametrize(("max_count", "count"), [(30, 1000), (1_000_000, 40_000)])
def test_claimed_keys_are_found_in_a_table_that_has_grown_since(max_count: int, count: int) -> None:
    other = compiled.KeyTable(SECRET, max_count, 64.0)
    more = [f"more {number}" for number in range(count)]
    claimed, *_ = other.claim(KEYS[:20], 0.0)
    other.claim(more, 0.0)
    other.confirm(claimed, 0.0)
    digests = [other.digest(key) for key in [*KEYS, *more]]
    states = [(other.is_pending(digest), other.has(digest)) for digest in digests]
    assert states == 20 * [(False, True)] + 20 * [(False, False)] + count * [(True, True)]


@given(st.lists(lines(), max_size=8), st.integers(1, 5), st.data())
@settings(max_examples=examples(50))
def test_keys_of_a_part_are_chosen_and_hashed_as_in_python(
    batch: list[bytes], count: int, data: st.DataObject
) -> None:
    batch = [VALID.replace(b'"i"', b'"i%d"' % number) for number in range(6)] + batch
    schema, number = InteractionSchema(), data.draw(st.integers(0, count - 1))
    looked = events_of(batch)
    ahead = schema.look_ahead_within(LIMITS, SECRET, (number, count))
    assert ahead
    ahead(looked)
    plain = schema.keys_within(batch, LIMITS)
    for events in (looked, events_of(batch)):
        keys = schema.keys_within(events, LIMITS)
        for _ in range(2):
            mine = of_part(keys, number, count)
            assert mine == of_part([*keys], number, count)
            chosen = data.draw(st.sets(st.integers(0, len(batch) - 1)).map(sorted)) if count > 2 else mine
            picked = pick_keys(keys, chosen)
            assert [*picked] == [keys[index] for index in chosen] == pick_keys([*keys], chosen)
            digests, *_ = compiled.KeyTable(SECRET, 100, 10.0).claim(picked, 0.0)
            expected, *_ = KeyTable(SECRET, 100, 10.0).claim([*picked], 0.0)
            assert list(digests) == expected
            keys[0] = "set later, as one that was explained"
    assert plain == [*schema.keys_within(events_of(batch), LIMITS)]


@given(st.lists(lines(), max_size=8), st.binary(max_size=16))
@settings(max_examples=examples(50))
def test_keys_of_events_are_hashed_as_in_python(batch: list[bytes], secret: bytes) -> None:
    schema = InteractionSchema()
    looked = events_of(batch)
    ahead = schema.look_ahead_within(LIMITS, secret, None)
    assert ahead
    ahead(looked)
    for events, limits in ((events_of(batch), None), (looked, LIMITS), (looked, LIMITS)):
        keys = schema.keys_within(events, limits)
        plain = schema.keys_within(batch, limits)
        for other in (secret, b"another", secret):  # a key that is set later, as one that was explained
            digests, duplicates, copies = compiled.KeyTable(other, 100, 10.0).claim(keys, 0.0)
            expected = KeyTable(other, 100, 10.0).claim(plain, 0.0)
            assert (list(digests), duplicates, copies) == (list(expected[0]), *expected[1:])
            if len(batch):
                plain[0] = keys[0] = f"set {len(plain[0] or '')}"
