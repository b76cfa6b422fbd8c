"""What ``/v1/status`` says of a source, by the names that operators know."""

import msgspec

from ingestd.sources.broker.source import SourceCounts
from ingestd.sources.live.counts import FileCounts
from tests.each import each


@each("counts", [SourceCounts(problem="gone"), FileCounts(problem="gone")])
def test_why_nothing_comes_is_the_trouble_of_a_source(counts: SourceCounts) -> None:
    shown = msgspec.to_builtins(counts)
    assert shown["trouble"] == "gone"
    assert "problem" not in shown
