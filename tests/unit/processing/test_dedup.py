"""The window against a plain model: for every key its state and when it became safe."""

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ingestd.core.chunk import Chunk
from ingestd.processing.claim import WaitingCopy
from ingestd.processing.dedup import DIGEST_BYTES, Window
from tests.effort import examples

MAX_COUNT, MAX_AGE = 32, 160
SURE_COUNT = MAX_COUNT * 15 // 16
SURELY_GONE = MAX_AGE + MAX_AGE / 16
KEYS = [f"key-{number}" for number in range(60)]
SECRET = b"a secret"
CHUNK = Chunk([b"x" * (1 + number % 7) for number in range(64)], source=1, start=0, end=9)

keys = st.lists(st.sampled_from(KEYS), max_size=20)
rows_of_the_store = st.tuples(st.integers(0, 2 * MAX_AGE), st.lists(st.sampled_from(KEYS), max_size=2))


class WindowAgainstModel(RuleBasedStateMachine):
    """``safe``: key -> when it became safe, in the order they did. Between "surely remembered" and
    "surely forgotten" the window may say either, and the model follows."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(SECRET, max_count=MAX_COUNT, max_age_s=MAX_AGE)
        self.now = 1000
        self.pending: set[str] = set()
        self.safe: dict[str, int] = {}
        self.followers: dict[str, list[WaitingCopy]] = defaultdict(list)

    # --- what is allowed ---

    def surely_known(self, key: str) -> bool:
        youngest = list(self.safe)[-SURE_COUNT:]
        return key in youngest and self.now - self.safe[key] <= MAX_AGE

    def surely_gone(self, key: str) -> bool:
        return key not in self.safe or self.now - self.safe[key] > SURELY_GONE

    def follow_reality(self) -> None:
        """Let the window expire, and the model know what it has forgotten."""
        self.window.claim([], self.now)
        for key in KEYS:
            state = self.window.state_of(key)
            if key in self.pending:
                assert state == "pending"
            elif state == "known":
                assert not self.surely_gone(key), f"{key} was remembered for too long"
            else:
                assert state == "new"
                assert key not in self.safe or not self.surely_known(key), f"{key} was forgotten too early"
                self.safe.pop(key, None)

    # --- what happens ---

    @initialize(
        rows=st.lists(st.tuples(st.integers(0, 2 * MAX_AGE), st.lists(st.sampled_from(KEYS), max_size=2)))
    )
    def restore(self, rows: list[tuple[int, list[str]]]) -> None:
        for age, row in sorted(rows, key=lambda row: -row[0]):
            fresh = [key for key in dict.fromkeys(row) if key not in self.safe]
            digests = [self.window.digest(key) for key in row]
            self.window.restore(digests, confirmed_at=self.now - age, now=self.now)
            if age <= MAX_AGE:
                self.safe.update(dict.fromkeys(fresh, self.now - age))
        self.follow_reality()

    @rule(seconds=st.sampled_from([1, 5, 9, 10, 11, 40, 159, 160, 161, 1000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.follow_reality()

    @rule(chunk=st.lists(st.one_of(st.none(), st.just(""), st.sampled_from(KEYS)), max_size=30))
    def claim(self, chunk: list[str | None]) -> None:
        self.follow_reality()
        before_pending, before_safe = set(self.pending), set(self.safe)
        digests, duplicates, copies = self.window.claim(chunk, self.now)
        expected: list[bytes | None] = []
        for index, key in enumerate(chunk):
            if not key:
                expected.append(None)
                assert index not in duplicates
            elif key in before_safe:
                expected.append(None)
                assert index in duplicates
            elif key in self.pending:
                expected.append(None)
                assert (index, self.window.digest(key)) in copies
                follower = WaitingCopy(CHUNK, index)
                self.window.follow(CHUNK, [(index, self.window.digest(key))])
                self.followers[key].append(follower)
            else:
                expected.append(self.window.digest(key))
                self.pending.add(key)
        assert digests == expected
        known = [key for key in chunk if key in before_safe]
        repeats = [key for key in chunk if key and key not in before_safe]
        assert len(duplicates) == len(known)
        assert len(copies) == len(repeats) - len(set(repeats) - before_pending)

    @rule(chosen=keys)
    def confirm(self, chosen: list[str]) -> None:
        """Keys on their way, and keys of dead letters, which the window may know or not."""
        self.follow_reality()
        back = self.window.confirm([self.window.digest(key) for key in chosen], self.now)
        self.assert_followers(chosen, back)
        for key in chosen:
            self.safe.setdefault(key, self.now)
        self.pending.difference_update(chosen)
        self.follow_reality()

    @rule()
    def confirm_all_that_is_pending(self) -> None:
        self.confirm(sorted(self.pending))

    @rule(chosen=keys)
    def release(self, chosen: list[str]) -> None:
        self.follow_reality()
        back = self.window.release([self.window.digest(key) for key in chosen])
        self.assert_followers(chosen, back)
        self.pending.difference_update(chosen)
        self.follow_reality()

    @rule(chosen=keys)
    def reclaim(self, chosen: list[str]) -> None:
        self.follow_reality()
        self.window.reclaim(self.window.digest(key) for key in chosen)
        self.pending.update(key for key in chosen if key not in self.safe)
        self.follow_reality()

    @rule(chosen=keys)
    def forget(self, chosen: list[str]) -> None:
        """Keys that are known are free again; those on their way, or never heard of, stay as they are."""
        self.follow_reality()
        self.window.forget([self.window.digest(key) for key in chosen])
        for key in chosen:
            self.safe.pop(key, None)
        for key in chosen:
            assert self.window.state_of(key) == ("pending" if key in self.pending else "new")
        self.follow_reality()

    def assert_followers(self, chosen: list[str], back: list[WaitingCopy]) -> None:
        expected = [follower for key in set(chosen) for follower in self.followers.pop(key, [])]
        assert sorted(f.position for f in back) == sorted(f.position for f in expected)

    # --- what always holds ---

    @invariant()
    def is_bounded_and_counts_right(self) -> None:
        waiting = [follower for followers in self.followers.values() for follower in followers]
        assert len(self.window) <= MAX_COUNT
        assert self.window.pending == len(self.pending)
        assert self.window.follower_count == len(waiting)
        assert self.window.follower_bytes == sum(len(CHUNK.events[f.position]) for f in waiting)


TestWindowAgainstModel = WindowAgainstModel.TestCase
TestWindowAgainstModel.settings = settings(max_examples=examples(40), stateful_step_count=40)


def window(**settings: float) -> Window:
    return Window(
        SECRET, max_count=int(settings.get("max_count", 1000)), max_age_s=settings.get("max_age_s", 160)
    )


def confirm(window: Window, keys: list[str], now: float) -> None:
    claimed = window.claim(keys, now)
    window.confirm([digest for digest in claimed.digests if digest], now)


def test_a_key_is_forgotten_in_time_although_nothing_came_for_long() -> None:
    seen = window(max_age_s=160)
    confirm(seen, ["a"], now=0)
    assert seen.claim(["a"], now=159).duplicates == [0]
    quiet = window(max_age_s=160)
    confirm(quiet, ["a"], now=0)
    assert quiet.claim(["a"], now=171).duplicates == []


def test_a_key_is_remembered_for_its_full_age_although_its_generation_began_before_it() -> None:
    seen = window(max_age_s=160)
    confirm(seen, ["a"], now=0)
    confirm(seen, ["b"], now=9)
    assert seen.claim(["b"], now=169).duplicates == [0]
    assert seen.claim(["b"], now=170).duplicates == []


def test_a_batch_larger_than_the_window_leaves_its_youngest_keys_remembered() -> None:
    seen = window(max_count=160)
    names = [str(number) for number in range(1000)]
    confirm(seen, names, now=0)
    assert seen.claim(names[-150:], now=1).duplicates == list(range(150))
    assert len(seen) <= 160


def test_an_event_that_is_safe_by_its_dead_letter_stays_known_when_its_copy_arrives_too() -> None:
    seen = window()
    (digest,) = seen.claim(["a"], now=0).digests
    assert digest
    seen.release([digest])
    seen.claim(["a"], now=1)  # a copy, on its way
    seen.confirm([digest], now=2)  # the dead letter was delivered
    assert seen.claim(["a"], now=3).duplicates == [0]
    seen.confirm([digest], now=4)  # so was the copy
    assert (len(seen), seen.pending) == (1, 0)
    assert seen.release([digest]) == []
    assert seen.state_of("a") == "known"


def test_a_key_that_was_freed_and_became_known_again_is_remembered_for_its_full_age() -> None:
    seen = window(max_age_s=160)
    confirm(seen, ["a"], now=0)
    seen.forget([seen.digest("a")])
    assert (seen.state_of("a"), len(seen)) == ("new", 0)
    confirm(seen, ["a"], now=100)
    assert seen.claim(["a"], now=200).duplicates == [0]  # its first place in the generations is gone
    assert seen.claim(["a"], now=260).duplicates == [0]
    assert seen.claim(["a"], now=271).duplicates == []


def test_what_was_freed_many_times_is_counted_once() -> None:
    seen = window(max_count=1000, max_age_s=160)
    for now in range(100):
        confirm(seen, ["a", f"b-{now}"], now=now)
        seen.forget([seen.digest("a")])
        assert seen.state_of("a") == "new"
        assert len(seen) == now + 1


def test_digests_have_128_bits_and_depend_on_the_secret() -> None:
    mine, other = Window(b"1" * 32), Window(b"2" * 32)
    assert DIGEST_BYTES == 16
    assert len(mine.digest("a")) == 16
    assert mine.digest("a") == Window(b"1" * 32).digest("a")
    assert mine.digest("a") != other.digest("a")
    assert mine.digests(["a", None, ""]) == [mine.digest("a"), None, None]
    assert mine.state_of("a") == "new"
