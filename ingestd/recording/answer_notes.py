"""Warnings about a sink's answers, once for each kind. For ``sink_recorder``."""

from collections.abc import Callable

from ingestd.core.answer import Answer
from ingestd.core.clock import Clock
from ingestd.core.text import answer_words
from ingestd.core.verdict import Verdict
from ingestd.sinks.answer_body import safe_text
from ingestd.transport.headers import retry_after

_MAX_REPORTED = 50


class AnswerNotes:
    """``warn`` is called with each new one."""

    def __init__(self, sink: str, *, warn: Callable[[str], None], clock: Clock) -> None:
        self._sink = sink
        self._warn = warn
        self._clock = clock
        self._reported: set[str] = set()

    def look(self, answer: Answer, verdict: Verdict, *, request_id: str) -> None:
        """Warn of errors that name no event, and of an invalid Retry-After."""
        if verdict.unmatched and self._is_new(f"unmatched {verdict.unmatched_words}"):
            kind = verdict.unmatched_words
            words = f"the answer says {kind}, and names no event of it" if kind else _NAMELESS
            self._warn(
                f"{self._sink}: request {request_id}: {words}; counted as unmatched_item_errors from now on,"
                f" and [sinks.{self._sink}.answers] says where the errors are: {answer_words(verdict.detail)}"
            )
        if "retry-after" in answer.headers and not 200 <= answer.status < 300:
            known = retry_after.of(answer.headers, now_wall=self._clock.wall())
            if known is None and self._is_new("retry-after"):
                value = safe_text(answer.headers["retry-after"], 80)
                self._warn(
                    f"{self._sink}: the API's Retry-After is ignored, for it is neither seconds nor an HTTP"
                    f" date: {value!r}; this is not repeated"
                )

    def _is_new(self, kind: str) -> bool:
        if kind in self._reported or len(self._reported) >= _MAX_REPORTED:
            return False
        self._reported.add(kind)
        return True


_NAMELESS = "errors in the answer name no event of it, or were cut off"
