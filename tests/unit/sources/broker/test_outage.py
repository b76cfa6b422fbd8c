"""An outage of a broker that the log has is also told when it is over."""

from ingestd.core.clock import SystemClock
from ingestd.sources.broker.source import Outage, SourceCounts


class ManualClock(SystemClock):
    now = 100.0

    def monotonic(self) -> float:  # type: ignore[override]
        return self.now


def test_the_end_of_an_outage_is_told_once_with_how_long_it_was_and_only_if_its_beginning_was() -> None:
    counts, lines, clock = SourceCounts(), list[str](), ManualClock()
    outage = Outage("nats.orders", counts, lines.append, clock)
    outage.ends()
    outage.goes_on("refused", reported=False)
    assert (counts.connected, counts.problem) == (False, "refused")
    outage.ends()
    assert (counts.connected, counts.problem, lines) == (True, "", [])
    for reported in (True, False, True):
        outage.goes_on("refused", reported=reported)
        clock.now += 40
    outage.ends(clock.now - 30)
    outage.ends()
    refused = "nats.orders: refused; it is tried again"
    assert lines == [refused, refused, "nats.orders: works again, after 1m30s"]
