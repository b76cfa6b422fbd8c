"""An outage of a broker that the log has is also told when it is over, which is no warning."""

import pytest

from ingestd.core.clock import SystemClock
from ingestd.sources.broker.source import Outage, SourceCounts
from ingestd.telemetry import log


class ManualClock(SystemClock):
    now = 100.0

    def monotonic(self) -> float:  # type: ignore[override]
        return self.now


def test_the_end_of_an_outage_is_told_once_with_how_long_it_was_and_only_if_its_beginning_was() -> None:
    counts, lines, news, clock = SourceCounts(), list[str](), list[str](), ManualClock()
    outage = Outage("nats.orders", counts, lines.append, clock, inform=news.append)
    outage.ends()
    outage.goes_on("refused", reported=False)
    assert (counts.connected, counts.problem) == (False, "refused")
    outage.ends()
    assert (counts.connected, counts.problem, lines, news) == (True, "", [], [])
    for reported in (True, False, True):
        outage.goes_on("refused", reported=reported)
        clock.now += 40
    outage.ends(clock.now - 30)
    outage.ends()
    refused = "nats.orders: refused; it is tried again"
    assert lines == [refused, refused]
    assert news == ["nats.orders: works again, after 1m30s"]


def test_that_it_is_over_is_information_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ingestd")
    outage = Outage("nats.orders", SourceCounts(), log.warning, SystemClock())
    outage.goes_on("refused", reported=True)
    outage.ends()
    assert [line.levelname for line in caplog.records] == ["WARNING", "INFO"]
    assert "nats.orders: works again, after" in caplog.text
