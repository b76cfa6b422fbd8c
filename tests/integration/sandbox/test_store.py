"""The tables of the sandbox keep to their limits."""

import gzip
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ingestd.sandbox import sample, store, tokens
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.store import AcceptedEvents, IdempotencyKeys
from tests.integration.sandbox.conftest import HandClock


@given(st.lists(st.lists(st.binary(max_size=4), min_size=1), max_size=20), st.integers(0, 60))
def test_counts_are_right_and_what_is_kept_is_the_beginning(batches: list[list[bytes]], keep: int) -> None:
    taken = AcceptedEvents(keep)
    for events in batches:
        taken.take(events)
    everything = [event for events in batches for event in events]
    assert taken.count == len(everything) == taken.distinct + taken.duplicates
    assert taken.distinct == len(set(everything))
    assert taken.kept == everything[: len(taken.kept)]
    assert taken.kept_bytes == sum(map(len, taken.kept)) <= keep
    assert sum(map(len, everything)) > keep or taken.kept == everything


def answered(keys: IdempotencyKeys, key: str, body: bytes = b"") -> None:
    assert keys.claim(key, b"digest") is None
    keys.keep(key, Reply(200, body))


def test_the_oldest_keys_go_first_but_never_one_that_is_open() -> None:
    keys = IdempotencyKeys(HandClock(), max_keys=2)
    assert keys.claim("open", b"digest") is None
    for key in "abc":
        answered(keys, key)
    assert len(keys) == 3
    assert keys.claim("a", b"digest") is None
    assert keys.claim("c", b"digest") is not None
    open_claim = keys.claim("open", b"other")
    assert open_claim is not None
    assert open_claim.reply is None


def test_keys_end_with_their_day() -> None:
    clock = HandClock()
    keys = IdempotencyKeys(clock)
    answered(keys, "k")
    clock.now += store.KEY_LIFETIME_S
    assert keys.claim("k", b"digest") is not None
    clock.now += 1
    assert keys.claim("k", b"digest") is None


def test_answers_are_bounded_in_bytes() -> None:
    keys = IdempotencyKeys(HandClock())
    large = b"x" * (store.MAX_REPLY_BYTES // 2)
    for key in "abc":
        answered(keys, key, large)
    assert len(keys) == 2


def test_a_released_key_is_free_and_an_answered_one_stays() -> None:
    keys = IdempotencyKeys(HandClock())
    keys.claim("k", b"digest")
    keys.release("k")
    answered(keys, "k")
    keys.release("k")
    assert len(keys) == 1


def test_tokens_are_bounded() -> None:
    issued = tokens.Tokens(HandClock(), lifetime_s=60, limit=None)
    first, last = issued.issue(), ""
    for _ in range(tokens.MAX_TOKENS):
        last = issued.issue()
    assert not issued.valid(first)
    assert issued.valid(last)


def key_of(line: bytes) -> tuple[bytes, bytes, bytes]:
    parts = line.split(b'"', 12)
    return parts[3], parts[7], parts[11]


def test_the_sample_is_what_it_says(tmp_path: Path) -> None:
    counts = sample.write_sample(tmp_path / "a.ndjson.gz", 5_000)
    sample.write_sample(tmp_path / "b.ndjson.gz", 5_000)
    assert (tmp_path / "a.ndjson.gz").read_bytes() == (tmp_path / "b.ndjson.gz").read_bytes()
    content = gzip.decompress((tmp_path / "a.ndjson.gz").read_bytes())
    assert content.startswith(b"\xef\xbb\xbf{")
    lines = content[3:].split(b"\n")
    assert [line for line in lines if line.endswith(b"\r")] == [lines[counts.events // 3]]
    assert lines.count(b"") == 2  # the empty line, and what follows the last line's end
    events = [line for line in lines if line]
    assert len(events) == counts.events == 5_000
    assert counts.events - len({key_of(event) for event in events}) == counts.duplicates
    assert 75 < counts.duplicates < 125
    assert 37 < counts.invalid < 63
    assert 0 < sum(b'"division"' in event for event in events) < 100
    assert 420 < sum(map(len, events)) / len(events) < 480


def test_clean_events_are_all_distinct_and_follow_the_seed() -> None:
    events = list(sample.sample_events(5_000, 3, duplicates=0, invalid=0))
    assert len({key_of(event) for event in events}) == 5_000
    assert events == list(sample.sample_events(5_000, 3, duplicates=0, invalid=0))
    assert events[0] != next(sample.sample_events(1, 4))
