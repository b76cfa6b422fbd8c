"""What an answer means for a batch, and what the lane is to do about it: resolve, split, wait, pause.

``decide`` reads no clock, draws no chance of its own, sends nothing and writes nothing down: it changes the
state of the lane's ``FlowControl`` and gives actions, which the lane carries out in their order.
"""

import random
import sys
from collections.abc import Callable, Mapping, Sequence

import msgspec

from ingestd.core.answer import Answer
from ingestd.core.chunk import Batch
from ingestd.core.reasons import Reason
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.delivery.bisection import GROUP_NOTE, Bisection, BisectionStep, KeysOf, halve
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.flow_control import FlowControl
from ingestd.delivery.recorder import FailedEvent, Outcomes
from ingestd.sinks.sink import Sink
from ingestd.transport.token_refusal import TokenRenewal

_CUTS = 3
"""How often in a row the connection is lost while the same batch is being sent, which then is halved."""
_NEVER_TOO_LONG = 16 * 1024
_FEW = 3  # answers in a row that are not the API's: no accident
_NO_REASON = "the sink cannot encode its batch, and does not say why"
_MAX_WORDS = 500  # characters of what a sink says of an event that it cannot encode


class Resolve(msgspec.Struct, frozen=True):
    """It is known what becomes of each event of ``batch``."""

    batch: Batch
    outcomes: Outcomes


class Resubmit(msgspec.Struct, frozen=True):
    """The batch goes again, before all new ones. ``repeat``: the API could not take these events before."""

    batch: Batch
    delay_s: float = 0.0
    repeat: bool = False


class LearnSize(msgspec.Struct, frozen=True):
    """The API takes no body longer than this."""

    max_bytes: int


class ReportState(msgspec.Struct, frozen=True):
    """The circuit has changed, or the reason why it is not closed."""

    state: BreakerState
    why: str


class DropToken(msgspec.Struct, frozen=True):
    """The token of that generation is refused."""

    generation: int


LaneAction = Resolve | Resubmit | LearnSize | ReportState | DropToken


class Attempt(msgspec.Struct, frozen=True):
    """``started``, ``seconds``: when it began and how long it took. ``generation``: of its token."""

    started: float
    seconds: float
    generation: int


class VerdictHandler:
    """Decides on the verdicts of one lane. ``keys_of``: what must stay together when a batch is cut.

    ``refusal``: what it means, for people, that a new token is refused as well. ``confirms``: the API will be
    asked about the events that it has accepted.
    """

    def __init__(
        self,
        flow: FlowControl,
        *,
        keys_of: KeysOf | None,
        refusal: Callable[[], str],
        confirms: bool,
        rng: random.Random,
    ) -> None:
        self._flow = flow
        self._keys_of = keys_of
        self._refusal = refusal
        self._confirms = confirms
        self._rng = rng
        self._renewal = TokenRenewal()
        self._cut_bytes = sys.maxsize  # the shortest body at which the API has ended the connection
        self._strange = 0  # answers in a row that are not the API's
        self._all_rejected = False  # the last bisected batch was rejected to its last event

    def decide(self, batch: Batch, verdict: Verdict, attempt: Attempt, now: float) -> list[LaneAction]:
        """What to do about the answer to ``batch``, in this order."""
        again, actions = self._with_new_token(batch, verdict, attempt, now)
        if again:
            batch.not_counted += 1
            return [*actions, Resubmit(batch)]
        meaning = verdict.meaning
        self._strange = self._strange + 1 if verdict.strange else 0
        if verdict.strange and self._strange < _FEW and not self._flow.is_probing:
            return actions + self._doubt(batch, verdict, now)
        if meaning is Meaning.RETRY:
            return actions + self._retry(batch, verdict, attempt, now)
        if meaning is Meaning.UNAUTHORIZED or meaning is Meaning.PAUSED:
            return actions + self._pause(batch, verdict, now)
        if self._flow.succeeded(now):
            actions.append(ReportState(BreakerState.CLOSED, "the API answers again"))
        match meaning:
            case Meaning.ACCEPTED:
                return actions + self._accepted(batch, verdict, attempt, now)
            case Meaning.SPLIT:
                return actions + self._too_large(batch, verdict)
            case Meaning.REJECTED:
                return actions + self._rejected(batch, verdict, now)
        return actions + self._dead_letter(batch, Reason.REFUSED, verdict.detail)

    def not_encodable(self, batch: Batch, events: Mapping[int, str]) -> list[LaneAction]:
        """The sink has no words for these events (index -> why), or for any if it names none: no request was
        made. The others go on as one batch."""
        events = {index: words[:_MAX_WORDS] for index, words in events.items() if 0 <= index < len(batch)}
        if not events:
            events = dict.fromkeys(range(len(batch)), _NO_REASON)
        failed = [FailedEvent(index, Reason.UNENCODABLE, events[index]) for index in sorted(events)]
        parts = self._others(batch, events)
        return [
            Resolve(batch, Outcomes((), failed, parts)),
            *map(Resubmit, parts),
            *self._follow_up(batch, good=False),
        ]

    def too_long(self, batch: Batch, max_bytes: int) -> list[LaneAction]:
        """Its body is longer than its API takes, as we know without asking."""
        if len(batch) == 1:
            detail = f"{len(batch.body)} bytes as a request; at most {max_bytes} are taken"
            return self._dead_letter(batch, Reason.TOO_LARGE, detail)
        return self._halve(batch)

    def pause(self, why: str, now: float) -> list[LaneAction]:
        """Nothing at all can be sent for now."""
        new = self._flow.pause(now, why, jitter=self._rng.random())
        return [ReportState(BreakerState.PAUSED, why)] if new else []

    def failed(self, batch: Batch, why: str, now: float, *, at_least_s: float = 0.0) -> list[LaneAction]:
        """An attempt failed, by no fault of an event as far as is known."""
        jitter = self._rng.random()
        news = self._flow.failed(now, batch, why, jitter=jitter, at_least_s=at_least_s)
        return [ReportState(self._flow.circuit.state, why)] if news else []

    def delay_s(self, batch: Batch, after_s: float | None = None) -> float:
        """Before the next attempt. ``after_s``: what the API asks for, at least."""
        return self._flow.backoff.delay(batch.tries, at_least_s=after_s, rng=self._rng)

    # --- by meaning ---

    def _accepted(self, batch: Batch, verdict: Verdict, attempt: Attempt, now: float) -> list[LaneAction]:
        flow, items = self._flow, verdict.items
        flow.limiter.succeeded(
            flow.active, started=attempt.started, now=now, seconds=attempt.seconds, size=len(batch.body)
        )
        batch.ambiguous = False  # whatever became of earlier attempts: of each event it is known now
        failed = [FailedEvent(one.index, Reason.REFUSED, one.message) for one in items if not one.retryable]
        parts, following = list[Batch](), list[Batch]()
        delivered: Sequence[int] = range(len(batch.events))
        remote_ids = verdict.remote_ids if self._confirms else ()
        if items:
            words = {one.index: one.message for one in items}
            again = sorted(one.index for one in items if one.retryable)
            if again and flow.exhausted(now, batch):
                failed += [FailedEvent(index, Reason.GAVE_UP, words[index]) for index in again]
            elif again:
                parts = [batch.part(again)]
            delivered = [index for index in delivered if index not in words]
            remote_ids = tuple((index, known) for index, known in remote_ids if index not in words)
        if verdict.goes_on and (on := [index for index in delivered if index in verdict.goes_on]):
            following = [batch.next_step(on)]
            delivered = [index for index in delivered if index not in on]
        outcomes = Outcomes(delivered, failed, parts + following, remote_ids)
        actions: list[LaneAction] = [Resolve(batch, outcomes)]
        flow.accepted(now)
        if len(batch.body) < self._cut_bytes < sys.maxsize:  # so it was the length
            actions.append(LearnSize(self._cut_bytes // 2))
            self._cut_bytes = sys.maxsize
        if parts or following:
            actions += [Resubmit(part, self.delay_s(batch), repeat=True) for part in parts]
            actions += map(Resubmit, following)
        # one that is refused alone says nothing of others
        return actions + self._follow_up(batch, good=bool(delivered or following) or len(batch) > 1)

    def _doubt(self, batch: Batch, verdict: Verdict, now: float) -> list[LaneAction]:
        """Not the API answered, this once. A batch that alone gets such answers is given up in time."""
        if self._flow.fails_alone(batch, now) and self._flow.exhausted(now, batch):
            return self._dead_letter(batch, Reason.GAVE_UP, verdict.detail)
        return [Resubmit(batch, self.delay_s(batch), repeat=True)]

    def _retry(self, batch: Batch, verdict: Verdict, attempt: Attempt, now: float) -> list[LaneAction]:
        flow, throttled = self._flow, verdict.throttled
        self._slow_down(batch, verdict, attempt, now)
        if verdict.cut_sending and not batch.ambiguous:
            batch.cuts += 1
        actions: list[LaneAction] = []
        if not throttled or flow.is_probing:
            actions = self.failed(batch, verdict.detail, now, at_least_s=verdict.after_s or 0.0)
        if throttled or flow.is_probing:
            batch.not_counted += 1
        if batch.cuts >= _CUTS and len(batch) > 1 and len(batch.body) > _NEVER_TOO_LONG:
            self._cut_bytes = min(self._cut_bytes, len(batch.body))
            return actions + self._halve(batch, delay_s=self.delay_s(batch, verdict.after_s))
        if not throttled and (batch.letters or flow.exhausted(now, batch)):
            return actions + self._dead_letter(batch, Reason.GAVE_UP, verdict.detail)
        delay_s = self.delay_s(batch, verdict.after_s)
        if throttled:
            batch.not_counted_s += delay_s
        return [*actions, Resubmit(batch, delay_s, repeat=True)]

    def _slow_down(self, batch: Batch, verdict: Verdict, attempt: Attempt, now: float) -> None:
        limiter, started = self._flow.limiter, attempt.started
        if verdict.slow_down:
            wait_s = 1.0 if verdict.after_s is None else verdict.after_s
            limiter.slow_down(started=started, now=now, wait_s=wait_s, throttled=verdict.throttled)
        else:
            limiter.failed(started=started, now=now, seconds=attempt.seconds, size=len(batch.body))

    def _too_large(self, batch: Batch, verdict: Verdict) -> list[LaneAction]:
        if len(batch) == 1:
            return self._dead_letter(batch, Reason.TOO_LARGE, verdict.detail)
        return [LearnSize(len(batch.body) // 2), *self._halve(batch)]

    def _halve(self, batch: Batch, *, delay_s: float = 0.0) -> list[LaneAction]:
        *parts, _ = halve(batch, self._keys_of)
        again = [Resubmit(part, delay_s, repeat=delay_s > 0) for part in parts]
        return [Resolve(batch, Outcomes(parts=parts)), *again, *self._follow_up(batch, good=False)]

    def _rejected(self, batch: Batch, verdict: Verdict, now: float) -> list[LaneAction]:
        if verdict.items:
            return self._rejected_by_name(batch, verdict.items, now)
        bisection = batch.bisection
        if not isinstance(bisection, Bisection):
            bisection = Bisection(expect_all=self._all_rejected, keys_of=self._keys_of)
        return self._follow(bisection, bisection.refused(batch), detail=verdict.detail)

    def _rejected_by_name(self, batch: Batch, items: Sequence[ItemError], now: float) -> list[LaneAction]:
        """Dead-letter what is named; the others go out again, in a batch of their own."""
        batch.ambiguous = False
        failed = [FailedEvent(one.index, Reason.REFUSED, one.message) for one in items if not one.retryable]
        if not failed and self._flow.exhausted(now, batch):
            return self._dead_letter(batch, Reason.GAVE_UP, items[0].message)
        parts = self._others(batch, {one.index for one in failed}) if len(failed) < len(batch) else []
        wait = len(failed) < len(items)
        again = [Resubmit(part, self.delay_s(batch) if wait else 0.0, repeat=wait) for part in parts]
        resolve = Resolve(batch, Outcomes((), failed, parts))
        return [resolve, *again, *self._follow_up(batch, good=bool(parts))]

    def _with_new_token(
        self, batch: Batch, verdict: Verdict, attempt: Attempt, now: float
    ) -> tuple[bool, list[LaneAction]]:
        """Whether the same again with a new token may be taken: once for each token; refused again, it is not
        the token's age."""
        if not verdict.cut_sending:
            batch.cuts = 0
        refused = verdict.meaning is Meaning.UNAUTHORIZED
        generation = attempt.generation
        if not (refused or verdict.about_token):
            if batch.last_status and verdict.meaning is not Meaning.PAUSED:
                self._renewal.worked = max(self._renewal.worked, generation)
            return False, []
        again = self._renewal.allows(generation, started=attempt.started, now=now)
        # a probe after a 401 has a new one each time
        return again, [DropToken(generation)] if again or refused else []

    def _pause(self, batch: Batch, verdict: Verdict, now: float) -> list[LaneAction]:
        """Not the events' fault: keep everything, and probe now and then."""
        batch.not_counted += 1
        about_us = verdict.about_token or verdict.meaning is Meaning.UNAUTHORIZED
        why = f"{self._refusal()}: {verdict.detail}" if about_us else verdict.detail
        return [*self.pause(why, now), Resubmit(batch)]

    def _dead_letter(self, batch: Batch, reason: Reason, detail: str) -> list[LaneAction]:
        failed = [FailedEvent(index, reason, detail) for index in range(len(batch))]
        return [Resolve(batch, Outcomes(failed=failed)), *self._follow_up(batch, good=False)]

    # --- bisection ---

    def _follow_up(self, batch: Batch, *, good: bool) -> list[LaneAction]:
        """What follows for the bisection that ``batch`` is part of, if any."""
        bisection = batch.bisection
        if isinstance(bisection, Bisection):
            return self._follow(bisection, bisection.accepted(batch) if good else bisection.ended(batch))
        if good:
            self._all_rejected = False
        return []

    def _follow(self, bisection: Bisection, step: BisectionStep, *, detail: str = "") -> list[LaneAction]:
        actions: list[LaneAction] = [Resolve(parent, Outcomes(parts=parts)) for parent, parts in step.cuts]
        for note, parts in (("", step.rejected), (GROUP_NOTE, step.untried)):
            for part in parts:
                words = note + (part.last_answer or detail)
                failed = [FailedEvent(index, Reason.REFUSED, words) for index in range(len(part))]
                actions.append(Resolve(part, Outcomes(failed=failed)))
        self._all_rejected = not bisection.found_good and (bisection.gave_up or self._all_rejected)
        return actions + [Resubmit(part) for part in step.send]

    def _others(self, batch: Batch, named: Mapping[int, str] | set[int]) -> list[Batch]:
        """The events that are not named, as one batch; no batch if there are none."""
        others = [index for index in range(len(batch)) if index not in named]
        return [batch.part(others)] if others else []


def understand(sink: Sink, answer: Answer, events: Sequence[bytes]) -> Verdict:
    """What the answer means. A sink that fails over a hostile one must not end the lane: then it is as if
    no answer had come, and the batch is sent again, under its own key, until it is given up."""
    try:
        verdict = sink.interpret(answer, events)
    except Exception as error:  # its words may be the answer's, so only its kind is told
        kind = type(error).__name__
        detail = f"{answer.status} the answer could not be understood ({kind})"
        return Verdict(Meaning.RETRY, detail, ambiguous=True)
    if verdict.items or verdict.remote_ids:
        return _checked(verdict, len(events))
    return verdict


def _checked(verdict: Verdict, count: int) -> Verdict:
    """Without what names no event of the batch, or one for the second time."""
    indices = [item.index for item in verdict.items]
    if not verdict.remote_ids and indices == sorted({*indices}) and indices[0] >= 0 and indices[-1] < count:
        return verdict
    items: dict[int, ItemError] = {}
    for item in verdict.items:
        if 0 <= item.index < count:
            items.setdefault(item.index, item)
    ids = {index: known for index, known in verdict.remote_ids if 0 <= index < count}
    dropped = len(verdict.items) - len(items)
    if not dropped and len(ids) == len(verdict.remote_ids):
        return verdict
    return verdict.but(
        items=tuple(items.values()),
        unmatched=verdict.unmatched + dropped,
        remote_ids=tuple(ids.items()),
    )
