"""When the lane stops sending, and how it finds out that it may go on."""

from ingestd.delivery.circuit_breaker import BreakerState, CircuitBreaker
from tests.each import each


def opened(at: float = 100.0, jitter: float = 1.0) -> CircuitBreaker:
    circuit = CircuitBreaker(1)
    assert circuit.failed(at, "503", jitter=jitter)
    return circuit


def test_it_opens_at_the_threshold_and_says_so_once() -> None:
    circuit = CircuitBreaker(3)
    assert [circuit.failed(1.0, "503", jitter=0.5) for _ in range(4)] == [False, False, True, False]
    assert (circuit.state, circuit.why) == (BreakerState.OPEN, "503")


def test_only_failures_in_a_row_count() -> None:
    circuit = CircuitBreaker(3)
    for _ in range(5):
        circuit.failed(1.0, "503", jitter=0.5)
        circuit.failed(1.0, "503", jitter=0.5)
        assert not circuit.succeeded(1.0)
    assert circuit.state is BreakerState.CLOSED


@each("state", [BreakerState.OPEN, BreakerState.PAUSED])
def test_otherwise_one_probe_at_a_time_goes_out_and_not_before_its_time(state: BreakerState) -> None:
    circuit = CircuitBreaker(1)
    if state is BreakerState.OPEN:
        circuit.failed(100.0, "503", jitter=1.0)
    else:
        circuit.pause(100.0, "403", jitter=1.0)
    assert circuit.state is state
    assert not circuit.may_probe(100.4, active=0)
    assert circuit.may_probe(100.5, active=0)
    assert not circuit.may_probe(100.5, active=1)


def test_the_waits_between_probes_double_and_are_capped() -> None:
    circuit, now, waits = opened(), 100.0, []
    for _ in range(9):
        waits.append(circuit.probe_at - now)
        now = circuit.probe_at
        circuit.failed(now, "503", jitter=1.0)
    assert waits == [0.5, 1, 2, 4, 8, 15, 15, 15, 15]


def test_jitter_takes_away_at_most_half_of_a_wait() -> None:
    assert opened(jitter=0.0).probe_at == 100.25
    assert opened(jitter=1.0).probe_at == 100.5


def test_requests_that_were_out_when_it_opened_do_not_put_off_the_first_probe() -> None:
    circuit = opened()
    for _ in range(4):
        circuit.failed(100.1, "503", jitter=1.0)
        circuit.pause(100.1, "403", jitter=1.0)
    assert circuit.probe_at == 100.5


def test_no_probe_goes_out_before_the_time_that_the_api_named() -> None:
    circuit = CircuitBreaker(1)
    circuit.failed(100.0, "503", jitter=1.0, at_least_s=7.0)
    assert circuit.probe_at == 107.0
    circuit.failed(107.0, "503", jitter=1.0, at_least_s=0.1)
    assert circuit.probe_at == 108.0, "a floor, not the wait itself"


def test_the_first_success_closes_it_and_the_waits_begin_anew() -> None:
    circuit = opened()
    for at in (101.0, 103.0, 108.0):
        circuit.failed(at, "503", jitter=1.0)
    assert circuit.succeeded(110.0)
    assert (circuit.state, circuit.why) == (BreakerState.CLOSED, "")
    assert circuit.failed(200.0, "503", jitter=1.0)
    assert circuit.probe_at == 200.5


def test_each_change_of_the_state_or_of_the_reason_is_news_once() -> None:
    circuit = CircuitBreaker(1)
    news = [
        circuit.failed(1.0, "503", jitter=0.5),
        circuit.failed(2.0, "503", jitter=0.5),
        circuit.failed(3.0, "cannot connect: Connection refused", jitter=0.5),
        circuit.failed(4.0, '500 {"message":"busy, request 17"}', jitter=0.5),
        circuit.failed(5.0, '500 {"message":"busy, request 18"}', jitter=0.5),
        circuit.pause(6.0, "403", jitter=0.5),
        circuit.pause(7.0, "401", jitter=0.5),
    ]
    assert news == [True, False, True, True, False, True, True]
    circuit.succeeded(8.0)
    assert circuit.failed(9.0, "401", jitter=0.5)


def test_a_pause_is_new_only_once_and_replaces_an_open_state() -> None:
    circuit = CircuitBreaker(3)
    assert [circuit.pause(1.0, "403", jitter=0.5) for _ in range(3)] == [True, False, False]
    circuit = opened()
    assert circuit.pause(101.0, "403", jitter=0.5)
    assert not circuit.pause(102.0, "403", jitter=0.5)
    assert (circuit.state, circuit.why) == (BreakerState.PAUSED, "403")


def test_the_time_of_all_outages_is_summed_and_goes_on_during_one() -> None:
    circuit = CircuitBreaker(1)
    assert circuit.outage_s(50.0) == 0
    circuit.failed(100.0, "503", jitter=0.5)
    assert circuit.outage_s(104.0) == 4.0
    circuit.succeeded(110.0)
    assert circuit.outage_s(150.0) == 10.0
    circuit.pause(200.0, "403", jitter=0.5)
    assert circuit.outage_s(203.0) == 13.0


def test_the_time_while_it_is_held_counts_as_an_outage_once() -> None:
    circuit = CircuitBreaker(1)
    circuit.hold(100.0)
    assert circuit.outage_s(110.0) == 10.0
    circuit.failed(110.0, "503", jitter=0.5)  # it was out when it was held
    circuit.release(120.0)
    assert circuit.outage_s(125.0) == 25.0
    assert circuit.failed(126.0, "503", jitter=0.5), "what is wrong is told again"
    circuit.hold(130.0)
    circuit.succeeded(140.0)
    assert circuit.outage_s(145.0) == 45.0
    circuit.release(150.0)
    assert circuit.outage_s(200.0) == 50.0
