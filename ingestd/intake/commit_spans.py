"""Spans of group commits, where requests are traced; and which requests the chunks of a commit are of."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ingestd.core.chunk import Chunk
from ingestd.intake.submission_group import SubmissionGroup

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from ingestd.telemetry.tracing import Spans, TracedSpan


class CommitSpans:
    """``begin`` before the commit, ``end`` after it."""

    def __init__(self, spans: "Spans") -> None:
        self._spans = spans

    def begin(self, group: SubmissionGroup) -> "TracedSpan":
        requests = [one.span for one in group.submissions if one.span]
        for one in group.submissions:
            if one.span:
                one.span.set(producer=one.producer or "anonymous", events=len(one.events))
        span = self._spans.commit = self._spans.start("commit", [one.context for one in requests])
        span.set(requests=len(group.submissions), events=sum(len(one.events) for one in group.submissions))
        return span

    def end(
        self,
        span: "TracedSpan",
        group: SubmissionGroup,
        chunks: Iterable[Chunk],
        owners: Iterable[int | None],
        error: BaseException | None,
    ) -> None:
        """``owners``: as of ``SubmissionGroup.claim``; a chunk without one is taken to be of all of them."""
        everybody = _contexts(group, range(len(group.submissions)))
        for chunk, owner in zip(chunks, owners, strict=True):
            found = everybody if owner is None else _contexts(group, [owner])
            if found and not error:
                self._spans.remember(chunk.source, chunk.start, found)
        if error:
            span.fail(type(error).__name__)
        span.end()
        if self._spans.commit is span:
            self._spans.commit = None


def _contexts(group: SubmissionGroup, numbers: Sequence[int]) -> "list[SpanContext]":
    spans = [group.submissions[number].span for number in numbers]
    return [span.context for span in spans if span]
