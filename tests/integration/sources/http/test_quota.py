from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.submission import DeferredSubmission
from ingestd.sources.http.auth import Authenticator, ProducerKeys
from ingestd.sources.http.quota import Quotas
from tests.each import each
from tests.integration.sources.http.support import EVENT, LINES, Hands, Scene, content, header

DAY_S = 86_400
NOON = 20_000 * DAY_S + DAY_S / 2


def quotas(*, per_second: float = 0.0, per_day: int = 0) -> tuple[Quotas, Hands]:
    clock = Hands(wall=NOON)
    found = Quotas(clock)
    found.configure({"web": ProducerKeys(events_per_second=per_second, events_per_day=per_day)})
    return found, clock


def scene_of(*, per_second: float = 0.0, per_day: int = 0) -> Scene:
    keys = {"web": ProducerKeys(events_per_second=per_second, events_per_day=per_day), "free": ProducerKeys()}
    scene = Scene(keys)
    scene.clock.epoch = NOON
    return scene


def test_events_over_the_rate_are_told_when_to_come_back() -> None:
    scene = scene_of(per_second=10)
    three = b"\n".join([EVENT] * 3)
    assert [scene.status(three, LINES, certificate_name="web") for _ in range(4)] == [202, 202, 202, 429]
    answer = scene.send(three, LINES, certificate_name="web")
    assert header(answer, "retry-after") == "1"
    assert content(answer)["detail"] == "the limit of this producer is 10 events a second"
    assert len(scene.desk.events) == 9
    scene.clock.move(0.2)
    assert scene.status(three, LINES, certificate_name="web") == 202


def test_producers_without_a_limit_are_not_counted() -> None:
    scene = scene_of(per_second=1)
    assert [scene.status(EVENT, certificate_name="free") for _ in range(50)] == [202] * 50
    assert [scene.status(EVENT, certificate_name="web") for _ in range(2)] == [202, 429]


def test_whoever_has_no_room_at_all_is_told_before_the_body_is_read() -> None:
    scene = scene_of(per_second=1)
    assert scene.status(EVENT, certificate_name="web") == 202
    assert scene.status(EVENT, certificate_name="web") == 429
    assert scene.bodies_read == 1


@each("limit", [{"per_second": 10.0}, {"per_day": 10}])
def test_a_request_larger_than_everything_is_let_through_once_and_paid_for(limit: dict[str, float]) -> None:
    scene = scene_of(**limit)  # type: ignore[arg-type]
    many = b"\n".join([EVENT] * 35)
    assert scene.status(EVENT, certificate_name="web") == 202
    first = scene.send(many, LINES, certificate_name="web")
    scene.clock.move(float(header(first, "retry-after") or 0))
    assert scene.status(many, LINES, certificate_name="web") == 202
    second = scene.send(EVENT, certificate_name="web")
    assert header(second, "retry-after") == ("3" if "per_second" in limit else str(3 * DAY_S))


def test_a_quota_ends_at_midnight() -> None:
    scene = scene_of(per_day=3)
    scene.clock.move(100.5)
    assert [scene.status(EVENT, certificate_name="web") for _ in range(4)] == [202, 202, 202, 429]
    answer = scene.send(EVENT, certificate_name="web")
    assert header(answer, "retry-after") == str(DAY_S // 2 - 100)
    scene.clock.move(DAY_S / 2 - 101)
    assert scene.status(EVENT, certificate_name="web") == 429
    scene.clock.move(1)
    assert scene.status(EVENT, certificate_name="web") == 202


def test_a_clock_put_right_locks_nobody_out() -> None:
    limited, clock = quotas(per_day=2)
    clock.epoch += 400 * DAY_S
    assert limited.charge("web", 2) is None
    clock.epoch -= 400 * DAY_S
    deferred = limited.charge("web", 1)
    assert deferred is not None
    assert deferred.retry_after_s <= DAY_S


@given(
    st.floats(0.01, 1e6),
    st.lists(st.tuples(st.integers(1, 2_000), st.floats(0, 10)), max_size=20),
)
def test_whoever_waits_as_long_as_told_is_let_through(
    per_second: float, requests: list[tuple[int, float]]
) -> None:
    limited, clock = quotas(per_second=per_second)
    for events, pause_s in requests:
        deferred = limited.charge("web", events)
        if deferred is not None:
            assert deferred.retry_after_s >= 1
            clock.move(deferred.retry_after_s)
            assert limited.charge("web", events) is None
        clock.move(pause_s)


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0, 3)), max_size=60))
def test_no_more_than_the_rate_is_ever_let_through(requests: list[tuple[int, float]]) -> None:
    limited, clock = quotas(per_second=10)
    start, taken, largest = clock.now, 0, 0
    for events, pause_s in requests:
        if limited.charge("web", events) is None:
            taken += events
            largest = max(largest, events)
        assert taken <= 10 * (clock.now - start) + max(10, largest) + 1e-3
        clock.move(pause_s)


def test_events_that_could_not_be_taken_are_given_back() -> None:
    scene = scene_of(per_second=1, per_day=2)
    scene.desk.verdict = lambda submission: DeferredSubmission(503, 1, "not now")
    assert [scene.status(EVENT, certificate_name="web") for _ in range(5)] == [503] * 5
    scene.desk.verdict = scene.desk.judge
    assert scene.status(EVENT, certificate_name="web") == 202


def test_new_limits_hold_at_once_and_forget_nothing() -> None:
    scene = scene_of(per_day=10)
    assert scene.status(b"\n".join([EVENT] * 4), LINES, certificate_name="web") == 202
    for per_day, status in ((4, 429), (5, 202), (6, 202), (6, 429), (0, 202)):
        new = {"web": ProducerKeys(events_per_day=per_day)}
        scene.endpoint.authenticator = Authenticator(new, clock=scene.clock)
        assert scene.status(EVENT, certificate_name="web") == status
    scene.endpoint.authenticator = Authenticator(
        {"web": ProducerKeys(events_per_second=1)}, clock=scene.clock
    )
    assert [scene.status(EVENT, certificate_name="web") for _ in range(2)] == [202, 429]
