"""Metrics of several processes as those of one."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingestd.telemetry.summed_metrics import ProcessLife, Summed, SumOfMetrics


def text(posted: int, *, lag: float = 0.0, connected: int = 1, settled: int = 0) -> str:
    return (
        "# TYPE ingestd_http_requests_total counter\n"
        f'ingestd_http_requests_total{{status="202"}} {posted}\n'
        "# TYPE ingestd_loop_lag_seconds gauge\n"
        f"ingestd_loop_lag_seconds {lag}\n"
        "# TYPE ingestd_nats_connected gauge\n"
        f"ingestd_nats_connected {connected}\n"
        "# TYPE ingestd_ready gauge\ningestd_ready 1\n"
        "# TYPE ingestd_share_events_total counter\n"
        f'ingestd_share_events_total{{sink="one"}} {settled}\n'
        "# TYPE ingestd_batch_events histogram\n"
        'ingestd_batch_events_bucket{le="1.0"} 1\ningestd_batch_events_bucket{le="+Inf"} 2\n'
        "ingestd_batch_events_sum 9\ningestd_batch_events_count 2\n"
    )


def scrape(sums: SumOfMetrics, texts: dict[ProcessLife, str], *, ready: bool = True) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(Summed(sums.add_up(texts, ready=ready)))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in families
        for sample in family.samples
    }


def test_counters_are_added_up_and_gauges_say_the_worst() -> None:
    both = {("a", 1): text(3, lag=0.5, settled=1), ("b", 1): text(4, lag=0.2, connected=0, settled=2)}
    assert scrape(SumOfMetrics(), both, ready=False) == {
        "ingestd_http_requests_total": 7,
        "ingestd_loop_lag_seconds": 0.5,
        "ingestd_nats_connected": 0,
        "ingestd_ready": 0,
        "ingestd_share_events_total": 3,
        "ingestd_batch_events_bucket1.0": 2,
        "ingestd_batch_events_bucket+Inf": 4,
        "ingestd_batch_events_sum": 18,
        "ingestd_batch_events_count": 4,
    }


def test_a_sum_does_not_fall_when_a_process_dies_and_its_shares_are_not_counted_twice() -> None:
    sums = SumOfMetrics()
    found = [
        scrape(sums, texts)
        for texts in (
            {("a", 1): text(3, settled=5), ("b", 1): text(4)},
            {("b", 1): text(5, settled=5)},
            {("a", 2): text(1), ("b", 1): text(5, settled=5)},
            {("a", 2): text(2), ("b", 1): text(5, settled=5)},
            {("a", 3): text(0, settled=5), ("b", 1): text(5)},
        )
    ]
    assert [one["ingestd_http_requests_total"] for one in found] == [7, 8, 9, 10, 10]
    assert [one["ingestd_share_events_total"] for one in found] == [5] * 5
