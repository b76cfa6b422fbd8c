"""What a lane does next, as a function of what has happened and of the time: no loop, no clock."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Batch
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.flow_control import Done, FlowControl, Wait
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.queues import Send
from tests.ids import new_id


def batch(number: int, letters: int = 0) -> Batch:
    return Batch([b"%d" % number], [None], [], letters=tuple(range(1, letters + 1)), new_id=new_id)


def flow(**settings: object) -> FlowControl:
    return FlowControl(
        LaneSettings(**settings),  # type: ignore[arg-type]
        None,
        withdraw=lambda letters: letters,
        url="https://api.example",
        now=0.0,
    )


def send(control: FlowControl, now: float) -> Batch:
    """What is sent now, counted as out."""
    step = control.next(now, held_back=False)
    assert isinstance(step, Send), step
    control.sent(now, step)
    return step.batch


def test_due_retries_go_before_new_batches_and_dead_letters_last() -> None:
    control = flow(max_in_flight=9)
    new, old, letters, later = batch(1), batch(2), batch(3, letters=1), batch(4)
    control.queues.add_letters(letters)
    control.queues.add([new])
    control.resubmit(0.0, old, delay_s=1.0, repeat=True)
    control.resubmit(0.0, later, delay_s=9.0, repeat=True)
    assert [send(control, 1.0) for _ in range(3)] == [old, new, letters]
    assert control.next(1.0, held_back=False) == Wait(2.0), "at the latest after a second"
    assert control.next(8.5, held_back=False) == Wait(9.0)


def test_it_is_done_when_closed_and_empty_and_nothing_is_out() -> None:
    control = flow()
    assert isinstance(control.next(0.0, held_back=False), Wait)
    control.queues.add([batch(1)])
    control.closed = True
    send(control, 0.0)
    assert isinstance(control.next(0.0, held_back=False), Wait)
    control.active -= 1
    assert control.next(0.0, held_back=False) == Done(None)


def test_nothing_goes_while_it_is_held_back_or_every_slot_is_taken() -> None:
    control = flow(max_in_flight=1)
    control.queues.add([batch(1), batch(2)])
    assert isinstance(control.next(0.0, held_back=True), Wait)
    send(control, 0.0)
    assert isinstance(control.next(0.0, held_back=False), Wait)
    control.active -= 1
    send(control, 0.0)


def test_one_probe_goes_while_the_circuit_is_open_whatever_its_batch_waits_for() -> None:
    control = flow(circuit_threshold=1, stop_on_outage=False)
    waiting = batch(1)
    control.resubmit(0.0, waiting, delay_s=60.0, repeat=True)
    assert control.failed(0.0, waiting, "503", jitter=1.0)
    assert control.next(0.1, held_back=False) == Wait(0.5)
    assert send(control, 0.5) is waiting
    assert isinstance(control.next(0.5, held_back=False), Wait)
    control.active -= 1
    assert control.succeeded(0.6)
    assert control.circuit.state is BreakerState.CLOSED


def test_a_lane_that_never_got_an_answer_ends_after_the_startup_timeout_and_names_the_reason() -> None:
    control = flow(startup_timeout_s=20.0, circuit_threshold=1)
    control.next(0.0, held_back=False)
    for now in (100.0, 101.0):  # the time before there was anything to send does not count
        control.next(now, held_back=False)
    waiting = batch(1)
    waiting.last_answer = "connection refused"
    control.resubmit(101.0, waiting, delay_s=60.0, repeat=True)
    assert isinstance(control.next(101.5, held_back=False), Wait)
    assert isinstance(control.next(121.4, held_back=False), Wait)
    done = control.next(121.5, held_back=False)
    assert isinstance(done, Done)
    assert str(done.error) == "https://api.example has taken nothing for 20s: connection refused"


def test_a_drain_ends_at_once_where_nothing_may_go_before_its_time_is_over() -> None:
    control = flow(retry_floor=0, retry_per_s=0.01)
    waiting = batch(1)
    control.resubmit(0.0, waiting, delay_s=0.0, repeat=True)
    send(control, 0.0)  # the one repeat that there is
    control.active -= 1
    control.resubmit(0.0, waiting, delay_s=0.0, repeat=True)
    control.closed = True
    control.drain(1.0, 5.0, feeding=False)
    assert send(control, 1.0) is waiting, "what waited when it began needs no budget"
    control.active -= 1
    control.resubmit(1.0, waiting, delay_s=0.1, repeat=True)
    assert control.next(1.0, held_back=False) == Done(None)
    assert control.queues.leftovers() == [waiting]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(0, 40)), max_size=60), st.integers(1, 3), st.booleans()
)
def test_no_more_are_out_than_allowed_and_every_wait_is_short_enough_to_see_an_outage(
    steps: list[tuple[int, float]], slots: int, stop: bool
) -> None:
    """Whatever happens in whatever order: a lane never waits longer than a second, never has more out than
    its slots, and gives each batch once."""
    control = flow(max_in_flight=slots, stop_on_outage=stop, circuit_threshold=2, backoff=Backoff())
    rng, now, number = random.Random(1), 0.0, 0
    out: list[Batch] = []
    known: set[str] = set()
    for kind, passed in steps:
        now += passed
        if kind == 0 or not out:
            number += 1
            control.queues.add([fresh := batch(number)])
            known.add(fresh.id)
        else:
            ended = out.pop(rng.randrange(len(out)))
            control.active -= 1
            if kind < 3:
                control.failed(now, ended, "503", jitter=rng.random())
                control.resubmit(now, ended, delay_s=rng.random() * 30, repeat=True)
            else:
                control.answered(now, {}, after_s=None)
                control.succeeded(now)
                control.accepted(now)
                control.resolved(now, ended, ())
                known.discard(ended.id)
        while isinstance(step := control.next(now, held_back=False), Send):
            assert step.batch not in out
            control.sent(now, step)
            out.append(step.batch)
            assert len(out) == control.active <= slots
        if isinstance(step, Done):
            assert stop
            assert step.error
            break
        assert now < step.until <= now + 1.0
    waiting = {left.id for left in control.queues.leftovers()}
    assert waiting | {one.id for one in out} == known
