"""What ``test_contract.py`` and ``test_contract_answers.py`` share."""

from collections.abc import Sequence

import pytest
from hypothesis import settings

from ingestd.core.verdict import Meaning, Verdict
from ingestd.sinks.sink import Sink, Unencodable
from tests.contract.sinks.cases import CASES
from tests.effort import examples

MAX_DETAIL = 1_000
"""Characters of a verdict's words: those of the answer, advice and ids."""

every_sink = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
few = settings(max_examples=examples(15))  # there are many sinks


def bound(sink: Sink, events: Sequence[bytes]) -> int:
    sizes = sink.sizes(events) or [len(event) for event in events]
    return sink.overhead_bytes + sum(sizes) + sink.separator_bytes * (len(events) - 1)


def unfit_of(sink: Sink, events: Sequence[bytes]) -> dict[int, str]:
    """Index -> words of what does not fit; nothing but Unfit may be raised."""
    try:
        assert isinstance(sink.encode(events), bytes)
    except Unencodable as unfit:
        return dict(unfit.events)
    return {}


def check(verdict: Verdict, count: int) -> None:
    """What is true of every verdict on a batch of ``count`` events."""
    assert isinstance(verdict.meaning, Meaning)
    indices = [item.index for item in verdict.items]
    assert indices == sorted(set(indices))
    assert all(type(index) is int and 0 <= index < count for index in indices)
    assert all(type(item.retryable) is bool for item in verdict.items)
    assert all(0 <= index < count and 0 < len(remote) <= 256 for index, remote in verdict.remote_ids)
    assert verdict.unmatched >= 0
    assert verdict.after_s is None or 0 <= verdict.after_s <= 900
    assert len(verdict.detail) <= MAX_DETAIL
    assert all(0 < len(item.message) <= 300 for item in verdict.items)
    for text in (verdict.detail, *(item.message for item in verdict.items)):
        assert len(text.splitlines()) <= 1
        text.encode()  # it goes into SQLite, the audit file and metrics
