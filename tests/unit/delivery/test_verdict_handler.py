"""What an answer leads to, as actions: no lane, no loop, no clock."""

import random

from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Batch
from ingestd.core.reasons import Reason
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.flow_control import FlowControl
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.recorder import Outcomes
from ingestd.delivery.verdict_handler import (
    Attempt,
    DropToken,
    LaneAction,
    LearnSize,
    ReportState,
    Resolve,
    Resubmit,
    VerdictHandler,
)
from tests.each import each
from tests.ids import new_id

FIRST = Attempt(started=0.0, seconds=0.1, generation=1)


def made(count: int) -> Batch:
    batch = Batch([b"%d" % number for number in range(count)], [None] * count, [], new_id=new_id)
    batch.attempts, batch.last_status, batch.first_sent = 1, 200, 0.0
    batch.freeze(b",".join(batch.events))
    return batch


class Decisions:
    """A handler whose time stands at 1.0."""

    def __init__(self, seed: int = 0, **settings: object) -> None:
        chosen = LaneSettings(backoff=Backoff(1.0, 1.0), circuit_threshold=2, **settings)  # type: ignore[arg-type]
        self.flow = FlowControl(chosen, None, withdraw=lambda one: one, url="https://api", now=0.0)
        self.handler = VerdictHandler(
            self.flow,
            keys_of=None,
            refusal=lambda: "a new token is refused",
            confirms=False,
            rng=random.Random(seed),
        )

    def __call__(self, batch: Batch, verdict: Verdict, attempt: Attempt = FIRST) -> list[LaneAction]:
        return self.handler.decide(batch, verdict, attempt, 1.0)


def settled(actions: list[LaneAction]) -> Outcomes:
    (found,) = [action.outcomes for action in actions if isinstance(action, Resolve)]
    return found


def again(actions: list[LaneAction]) -> list[Resubmit]:
    return [action for action in actions if isinstance(action, Resubmit)]


def test_a_batch_that_is_accepted_is_delivered_whole() -> None:
    batch = made(3)
    assert Decisions()(batch, Verdict(Meaning.ACCEPTED)) == [Resolve(batch, Outcomes(range(3), [], []))]


def test_of_a_batch_that_is_accepted_but_for_some_these_are_dead_letters_or_go_again() -> None:
    batch = made(4)
    items = (ItemError(1, "bad", retryable=False), ItemError(3, "busy", retryable=True))
    actions = Decisions()(batch, Verdict(Meaning.ACCEPTED, items=items))
    found = settled(actions)
    assert (found.delivered, [(one.index, one.reason) for one in found.failed]) == (
        [0, 2],
        [(1, Reason.REFUSED)],
    )
    (part,) = found.parts
    assert part.events == [b"3"]
    (resubmitted,) = again(actions)
    assert resubmitted.batch is part
    assert resubmitted.repeat
    assert 0.1 <= resubmitted.delay_s <= 1.0


def test_the_same_batch_goes_again_after_the_time_that_the_api_named() -> None:
    batch = made(2)
    (action,) = again(Decisions()(batch, Verdict(Meaning.RETRY, "503", after_s=7.0)))
    assert action.batch is batch
    assert 7.0 <= action.delay_s <= 8.0


def reports(actions: list[LaneAction]) -> list[ReportState]:
    return [action for action in actions if isinstance(action, ReportState)]


def test_an_outage_is_reported_once_and_so_is_its_end() -> None:
    decide = Decisions()
    failing = [reports(decide(made(1), Verdict(Meaning.RETRY, "503"))) for _ in range(3)]
    assert failing == [[], [ReportState(BreakerState.OPEN, "503")], []]
    good = [reports(decide(made(1), Verdict(Meaning.ACCEPTED))) for _ in range(2)]
    assert good == [[ReportState(BreakerState.CLOSED, "the API answers again")], []]


def test_what_is_too_large_goes_in_halves_and_its_size_is_learned() -> None:
    batch = made(5)
    actions = Decisions()(batch, Verdict(Meaning.SPLIT, "413"))
    assert actions[0] == LearnSize(len(batch.body) // 2)
    assert [part.events for part in settled(actions).parts] == [[b"0", b"1"], [b"2", b"3", b"4"]]
    assert [one.batch for one in again(actions)] == list(settled(actions).parts)


@each(("meaning", "reason"), [(Meaning.SPLIT, Reason.TOO_LARGE), (Meaning.PERMANENT, Reason.REFUSED)])
def test_one_event_that_is_never_accepted_is_a_dead_letter(meaning: Meaning, reason: Reason) -> None:
    found = settled(Decisions()(made(1), Verdict(meaning, "no")))
    assert [(one.index, one.reason, one.detail) for one in found.failed] == [(0, reason, "no")]


def test_what_is_rejected_by_name_is_a_dead_letter_and_the_others_go_at_once() -> None:
    batch = made(3)
    actions = Decisions()(batch, Verdict(Meaning.REJECTED, items=(ItemError(1, "bad", retryable=False),)))
    assert [one.index for one in settled(actions).failed] == [1]
    (part,) = settled(actions).parts
    assert again(actions) == [Resubmit(part)]
    assert part.events == [b"0", b"2"]


def test_what_is_rejected_without_a_name_is_searched_in_halves() -> None:
    decide, batch = Decisions(), made(4)
    first, second = (one.batch for one in again(decide(batch, Verdict(Meaning.REJECTED, "400"))))
    assert again(decide(first, Verdict(Meaning.ACCEPTED))) == []
    third, fourth = (one.batch for one in again(decide(second, Verdict(Meaning.REJECTED, "400"))))
    decide(third, Verdict(Meaning.ACCEPTED))
    fourth.last_answer = "400 bad"
    (failed,) = settled(decide(fourth, Verdict(Meaning.REJECTED, "400 bad"))).failed
    assert failed.detail == "400 bad"


def test_a_refused_token_is_dropped_and_tried_once_more_then_the_lane_pauses() -> None:
    decide, batch = Decisions(), made(1)
    assert decide(batch, Verdict(Meaning.UNAUTHORIZED, "401")) == [DropToken(1), Resubmit(batch)]
    actions = decide(batch, Verdict(Meaning.UNAUTHORIZED, "401"), Attempt(2.0, 0.1, 2))
    why = "a new token is refused: 401"
    assert actions == [DropToken(2), ReportState(BreakerState.PAUSED, why), Resubmit(batch)]
    assert batch.not_counted == 2


def test_a_batch_that_was_tried_too_often_is_given_up_but_never_in_an_outage_or_a_drain() -> None:
    def reasons(decide: Decisions) -> list[Reason]:
        batch = made(1)
        batch.attempts = 3
        actions = decide(batch, Verdict(Meaning.RETRY, "500"))
        return [one.reason for one in settled(actions).failed] if not again(actions) else []

    assert reasons(Decisions(max_attempts=3)) == [Reason.GAVE_UP]
    paused = Decisions(max_attempts=3)
    paused.handler.pause("403", 0.5)
    assert reasons(paused) == []
    draining = Decisions(max_attempts=3)
    draining.flow.drain(0.5, 9.0, feeding=False)
    assert reasons(draining) == []


def test_events_without_words_are_dead_letters_and_the_others_go_on() -> None:
    batch = made(3)
    actions = Decisions().handler.not_encodable(batch, {1: "no such field", 7: "not of this batch"})
    assert [(one.index, one.reason, one.detail) for one in settled(actions).failed] == [
        (1, Reason.UNENCODABLE, "no such field")
    ]
    assert [one.batch.events for one in again(actions)] == [[b"0", b"2"]]
    assert len(settled(Decisions().handler.not_encodable(made(2), {})).failed) == 2


@each("seed", range(20))
def test_the_same_calls_give_the_same_actions(seed: int) -> None:
    """Nothing but what is passed in has a say: two handlers with one seed decide alike."""
    rng = random.Random(seed)
    meanings = [rng.choice(list(Meaning)) for _ in range(12)]

    def live() -> list[object]:
        decide = Decisions(seed)
        batches = [made(8)]
        shown: list[object] = []
        for meaning in meanings:
            if not batches:
                break
            batch = batches.pop(0)
            batch.last_status = 400
            for action in decide(batch, Verdict(meaning, meaning.name)):
                if isinstance(action, Resubmit):
                    batches.append(action.batch)
                    shown.append(("again", tuple(action.batch.events), action.delay_s, action.repeat))
                elif isinstance(action, Resolve):
                    outcomes = action.outcomes
                    failed = [(one.index, one.reason, one.detail) for one in outcomes.failed]
                    shown.append(("settled", tuple(action.batch.events), tuple(outcomes.delivered), failed))
                else:
                    shown.append(action)
        return shown

    assert live() == live()
