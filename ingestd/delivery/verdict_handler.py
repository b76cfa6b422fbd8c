"""What the lane does about a verdict: settle, split, wait, pause. One method for each meaning."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ingestd.core.batch import Batch
from ingestd.core.reasons import Reason
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.delivery.attempt import Misfit
from ingestd.delivery.batch_splitting import halve
from ingestd.delivery.bisection import GROUP_NOTE, Bisection, BisectionStep
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.recorder import FailedEvent, Outcomes, Recorder
from ingestd.delivery.renewal import TokenRenewal

if TYPE_CHECKING:
    from ingestd.delivery.lane import Lane


_CUTS = 3
"""So often in a row the connection is lost while the same batch is being sent, which then is halved."""
_NEVER_TOO_LONG = 16 * 1024


class VerdictHandler:
    """Acts on verdicts for one lane. Synchronous: an outcome is noted before its slot is free again."""

    def __init__(self, lane: "Lane", book: Recorder) -> None:
        self._lane = lane
        self._book = book
        self._renewal = TokenRenewal()
        self._cut_bytes = sys.maxsize  # the shortest body at which the API has ended the connection
        self._all_refused = False  # the last bisected batch was refused to its last event

    def act(self, batch: Batch, verdict: Verdict, *, started: float, seconds: float, generation: int) -> None:
        """``started``, ``seconds``: when the attempt began, and how long it took."""
        lane = self._lane
        if self._is_for_a_new_token(batch, verdict, generation=generation, started=started):
            batch.excused += 1
            lane.resubmit(batch)
            return
        match verdict.meaning:
            case Meaning.ACCEPTED:
                lane.answered()
                lane.limiter.succeeded(
                    lane.active, started=started, now=lane.now(), seconds=seconds, size=len(batch.body)
                )
                self._taken(batch, verdict)
            case Meaning.RETRY:
                if verdict.slow_down:
                    wait_s = 1.0 if verdict.after_s is None else verdict.after_s
                    lane.limiter.slow_down(
                        started=started, now=lane.now(), wait_s=wait_s, throttled=verdict.throttled
                    )
                else:
                    lane.limiter.failed(
                        started=started, now=lane.now(), seconds=seconds, size=len(batch.body)
                    )
                self._later(batch, verdict)
            case Meaning.SPLIT:
                lane.answered()
                self._too_big(batch, verdict)
            case Meaning.REJECTED:
                lane.answered()
                self._refused(batch, verdict)
            case Meaning.PERMANENT:
                lane.answered()
                self._bury(batch, Reason.REFUSED, verdict.detail)
            case Meaning.UNAUTHORIZED | Meaning.PAUSED:
                self._pause(batch, verdict)

    def _taken(self, batch: Batch, verdict: Verdict) -> None:
        batch.unanswered = False  # whatever became of earlier attempts: of each event it is known now
        again = sorted(item.index for item in verdict.items if item.retryable)
        dead = [FailedEvent(i.index, Reason.REFUSED, i.message) for i in verdict.items if not i.retryable]
        parts: list[Batch] = []
        if again and self._lane.exhausted(batch):
            words = {item.index: item.message for item in verdict.items}
            dead += [FailedEvent(index, Reason.GAVE_UP, words[index]) for index in again]
        elif again:
            parts = [batch.part(again)]
        delivered: Sequence[int] = range(len(batch))
        if verdict.items:
            exceptions = {item.index for item in verdict.items}
            delivered = [index for index in delivered if index not in exceptions]
        remote_ids = verdict.remote_ids if self._lane.settings.confirms else ()
        if remote_ids and verdict.items:
            remote_ids = tuple((index, known) for index, known in remote_ids if index not in exceptions)
        self._settle(batch, delivered, dead, parts, remote_ids=remote_ids)
        self._lane.taken()
        if len(batch.body) < self._cut_bytes < sys.maxsize:  # so it was the length
            self._lane.learned(self._cut_bytes // 2)
            self._cut_bytes = sys.maxsize
        self._send(parts, delay_s=self._lane.delay(batch) if parts else 0.0, repeat=True)
        self._inform(batch, good=True)

    def _later(self, batch: Batch, verdict: Verdict) -> None:
        lane = self._lane
        if verdict.cut_sending and not batch.unanswered:
            batch.cuts += 1
        if not verdict.throttled or lane.circuit.state is not BreakerState.CLOSED:
            lane.failed(batch, verdict.detail, at_least_s=verdict.after_s or 0.0)
        if verdict.throttled or lane.circuit.state is not BreakerState.CLOSED:
            batch.excused += 1
        if batch.cuts >= _CUTS and len(batch) > 1 and len(batch.body) > _NEVER_TOO_LONG:
            self._cut_bytes = min(self._cut_bytes, len(batch.body))
            self._halve(batch, delay_s=lane.delay(batch, verdict.after_s))
            return
        if not verdict.throttled and (batch.letters or lane.exhausted(batch)):
            self._bury(batch, Reason.GAVE_UP, verdict.detail)
            return
        delay_s = lane.delay(batch, verdict.after_s)
        if verdict.throttled:
            batch.excused_s += delay_s
        lane.resubmit(batch, delay_s=delay_s, repeat=True)

    # --- before any request ---

    def misfit(self, batch: Batch, misfit: Misfit) -> None:
        """It cannot be sent as it is: deal with it."""
        if misfit.events:
            self._unfit(batch, misfit.events)
        else:
            self._too_long(batch, misfit.max_bytes)

    def _unfit(self, batch: Batch, events: Mapping[int, str]) -> None:
        """The sink has no words for these events: no request was made. The others go on as one."""
        buried = [FailedEvent(index, Reason.UNFIT, events[index]) for index in sorted(events)]
        others = [index for index in range(len(batch)) if index not in events]
        parts = [batch.part(others)] if others else []
        self._settle(batch, (), buried, parts)
        self._send(parts)
        self._inform(batch, good=False)

    def _too_long(self, batch: Batch, limit: int) -> None:
        """Its body is longer than its API takes, as we know without asking."""
        if len(batch) == 1:
            self._bury(
                batch, Reason.TOO_LARGE, f"{len(batch.body)} bytes as a request; at most {limit} are taken"
            )
        else:
            self._halve(batch)

    # --- after an answer ---

    def _too_big(self, batch: Batch, verdict: Verdict) -> None:
        if len(batch) == 1:
            self._bury(batch, Reason.TOO_LARGE, verdict.detail)
            return
        self._lane.learned(len(batch.body) // 2)
        self._halve(batch)

    def _halve(self, batch: Batch, *, delay_s: float = 0.0) -> None:
        *parts, _ = halve(batch, self._lane.keys_of)
        self._settle(batch, (), (), parts)
        self._send(parts, delay_s=delay_s, repeat=delay_s > 0)
        self._inform(batch, good=False)

    def _refused(self, batch: Batch, verdict: Verdict) -> None:
        if verdict.items:
            self._refused_by_name(batch, verdict.items)
            return
        inquiry = batch.inquiry
        if not isinstance(inquiry, Bisection):
            inquiry = Bisection(expect_all=self._all_refused, keys_of=self._lane.keys_of)
        self._follow(inquiry, inquiry.refused(batch), detail=verdict.detail)

    def _refused_by_name(self, batch: Batch, items: tuple[ItemError, ...]) -> None:
        """Dead-letter what is named; the others go out again, in a batch of their own."""
        batch.unanswered = False
        dead = [FailedEvent(item.index, Reason.REFUSED, item.message) for item in items if not item.retryable]
        if not dead and self._lane.exhausted(batch):
            self._bury(batch, Reason.GAVE_UP, items[0].message)
            return
        named = {burial.index for burial in dead}
        others = [index for index in range(len(batch)) if index not in named]
        parts = [batch.part(others)] if others else []
        self._settle(batch, (), dead, parts)
        wait = any(item.retryable for item in items)
        self._send(parts, delay_s=self._lane.delay(batch) if wait else 0.0, repeat=wait)
        self._inform(batch, good=bool(others))

    def _is_for_a_new_token(self, batch: Batch, verdict: Verdict, *, generation: int, started: float) -> bool:
        """Whether the same again with a new token may be taken: once for each token; refused again, it is not
        the token's age."""
        if not verdict.cut_sending:
            batch.cuts = 0
        refused = verdict.meaning is Meaning.UNAUTHORIZED
        if not (refused or verdict.about_token):
            if batch.last_status and verdict.meaning is not Meaning.PAUSED:
                self._renewal.worked(generation)
            return False
        again = self._renewal.allows(generation, started=started, now=self._lane.now())
        if again or refused:  # a probe after a 401 has a new one each time
            self._lane.transport.drop_token(generation)
        return again

    def _pause(self, batch: Batch, verdict: Verdict) -> None:
        """Not the events' fault: keep everything, and probe now and then."""
        batch.excused += 1
        about_us = verdict.about_token or verdict.meaning is Meaning.UNAUTHORIZED
        self._lane.pause(f"{self._lane.transport.refusal}: {verdict.detail}" if about_us else verdict.detail)
        self._lane.resubmit(batch)

    def _bury(self, batch: Batch, reason: Reason, detail: str) -> None:
        self._settle(batch, (), [FailedEvent(index, reason, detail) for index in range(len(batch))], ())
        self._inform(batch, good=False)

    def _inform(self, batch: Batch, *, good: bool) -> None:
        """Tell the bisection that ``batch`` is part of, if any, what became of it."""
        inquiry = batch.inquiry
        if isinstance(inquiry, Bisection):
            self._follow(inquiry, inquiry.accepted(batch) if good else inquiry.ended(batch))
        elif good:
            self._all_refused = False

    def _follow(self, inquiry: Bisection, step: BisectionStep, *, detail: str = "") -> None:
        for parent, parts in step.cuts:
            self._settle(parent, (), (), parts)
        for note, parts in (("", step.bury), (GROUP_NOTE, step.untried)):
            for part in parts:
                words = note + (part.last_answer or detail)
                burials = [FailedEvent(index, Reason.REFUSED, words) for index in range(len(part))]
                self._settle(part, (), burials, ())
        self._send(step.send)
        self._all_refused = not inquiry.found_good and (inquiry.gave_up or self._all_refused)

    def _send(self, parts: Sequence[Batch], *, delay_s: float = 0.0, repeat: bool = False) -> None:
        for part in parts:
            self._lane.resubmit(part, delay_s=delay_s, repeat=repeat)

    def _settle(
        self,
        batch: Batch,
        delivered: Sequence[int],
        buried: Sequence[FailedEvent],
        parts: Sequence[Batch],
        *,
        remote_ids: Sequence[tuple[int, str]] = (),
    ) -> None:
        for part in parts:  # frozen with their bytes: a restart must be able to tell them
            self._lane.freeze(part)
        self._book.resolve(batch, Outcomes(delivered, buried, parts, remote_ids))
        self._lane.settled(batch, parts)
