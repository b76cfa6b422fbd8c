"""One attempt to send a batch: what comes before it, and what its answer means. The lane calls it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from ingestd.core.answer import Answer
from ingestd.core.batch import Batch
from ingestd.core.clock import Clock
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.delivery.recorder import Recorder
from ingestd.sinks.sink import Sink, Unencodable

_MAX_WORDS = 500
"""Characters of what a sink says of an event that does not fit."""


class BatchTransport(Protocol):
    """Sends one request with credentials; does not raise for network trouble. ``refusal``: what it means
    that they are not accepted although they were renewed."""

    @property
    def refusal(self) -> str: ...

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
        """The answer, and the generation of the token it was sent with. Raises Unreachable when the
        login is refused or stays out of reach."""
        ...

    def drop_token(self, generation: int) -> None: ...


class Misfit(NamedTuple):
    """Why a batch cannot be sent as it is. ``events``: index -> words, of those that the sink cannot encode;
    empty: its body is longer than the ``max_bytes`` that the API takes."""

    events: dict[int, str]
    max_bytes: int = 0


def find_misfit(batch: Batch, sink: Sink) -> Misfit | None:
    """Encode the batch before its first request. None: it can be sent."""
    if not batch.body:
        try:
            batch.freeze(sink.encode(batch.events))
        except Unencodable as error:
            return Misfit(_unfit_events(error, len(batch)))
    known = batch.attempts or batch.unanswered  # then the API may have it under its key, as it is
    return None if known or len(batch.body) <= sink.max_bytes else Misfit({}, sink.max_bytes)


async def send(
    batch: Batch, *, sink: Sink, transport: BatchTransport, book: Recorder, clock: Clock
) -> tuple[Verdict, Answer, float, int]:
    """Gives also when it was sent, and the generation of its token. Raises Unreachable, StoreFailed."""
    await book.freeze(batch)
    headers = sink.headers(batch.id, batch.events)
    started = clock.monotonic()
    try:
        answer, generation = await transport.send(sink.url, batch.body, headers)
    except asyncio.CancelledError:
        batch.unanswered = True
        raise
    verdict = understand(sink, answer, batch.events)
    batch.attempts += 1
    batch.last_answer, batch.last_status = verdict.detail, answer.status
    batch.unanswered = batch.unanswered or verdict.unanswered
    book.attempted(batch, answer, verdict)
    return verdict, answer, started, generation


def understand(sink: Sink, answer: Answer, events: Sequence[bytes]) -> Verdict:
    """What the answer means. A sink that fails over a hostile one must not end the lane: then it is as if
    no answer had come, and the batch is sent again, under its own key, until it is given up."""
    try:
        verdict = sink.interpret(answer, events)
    except Exception as error:  # its words may be the answer's, so only its kind is told
        kind = type(error).__name__
        detail = f"{answer.status} the answer could not be understood ({kind})"
        return Verdict(Meaning.RETRY, detail, unanswered=True)
    if verdict.items or verdict.remote_ids:
        return _checked(verdict, len(events))
    return verdict


def _unfit_events(error: Unencodable, count: int) -> dict[int, str]:
    """Index -> words. All of a batch of ``count`` events where the sink names none of them."""
    events = {index: words[:_MAX_WORDS] for index, words in error.events.items() if 0 <= index < count}
    return events or dict.fromkeys(range(count), "the sink cannot encode its batch, and does not say why")


def _checked(verdict: Verdict, count: int) -> Verdict:
    """Without what names no event of the batch, or one for the second time."""
    items: dict[int, ItemError] = {}
    for item in verdict.items:
        if 0 <= item.index < count:
            items.setdefault(item.index, item)
    ids = {index: known for index, known in verdict.remote_ids if 0 <= index < count}
    dropped = len(verdict.items) - len(items)
    if not dropped and len(ids) == len(verdict.remote_ids):
        return verdict
    return replace(
        verdict,
        items=tuple(items.values()),
        unmatched=verdict.unmatched + dropped,
        remote_ids=tuple(ids.items()),
    )


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one behind the wrapping of attempts that were out together."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
