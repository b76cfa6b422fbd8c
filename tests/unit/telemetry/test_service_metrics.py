"""The service's metrics are its catalogue, with closed sets of labels, and counters that never fall."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingestd import __version__
from ingestd.core.ledger import Ledger
from ingestd.sources.live.counts import FileCounts
from ingestd.telemetry.catalogue import CATALOGUE, SERVICE_CATALOGUE
from ingestd.telemetry.cluster_metrics import ClusterCensus, ClusterGauges
from ingestd.telemetry.instruments import MAX_PRODUCERS, ProducerEvents
from ingestd.telemetry.metrics import (
    Metrics,
    Reloads,
    ServiceGauges,
    ServiceMetrics,
)
from ingestd.telemetry.source_metrics import SourceCensus


def scrape(service: ServiceMetrics) -> dict[str, Metric]:
    page = generate_latest(service.registry).decode()
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(page)
        if not family.name.endswith("_created")
    }


def values(family: Metric, label: str) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in family.samples if label in sample.labels}


def test_what_is_exported_is_the_catalogue_and_the_process() -> None:
    service = ServiceMetrics(Metrics(Ledger()).registry)
    files = SimpleNamespace(counts=FileCounts(), oldest_s=0.0)  # has all that a broker has, and more
    service.registry.register(SourceCensus({"files": files}))
    service.registry.register(ClusterCensus(lambda: ClusterGauges(edge_events={"stored": 1})))
    families = scrape(service)
    ours = {name: family for name, family in families.items() if name.startswith("ingestd_")}
    assert {name: (family.type, family.documentation) for name, family in ours.items()} == CATALOGUE
    assert families.keys() - ours.keys() >= {
        "process_resident_memory_bytes",
        "process_open_fds",
        "python_info",
    }


def test_nothing_of_the_service_shows_without_it() -> None:
    page = generate_latest(Metrics(Ledger()).registry).decode()
    assert [name for name in SERVICE_CATALOGUE if name.removesuffix("_total") in page] == []


def test_values_are_read_at_the_moment_of_the_scrape() -> None:
    codes = {202: 5, 429: 2, 418: 1, 299: 1}
    service = ServiceMetrics(
        Metrics(Ledger()).registry,
        lambda: ServiceGauges(
            http_requests=codes,
            deferred_events={503: 7},
            state_file_bytes={"db": 4096, "shm": 1},
            disk_full=True,
            ready=True,
            spool_bytes=11,
            loop_lag_s=0.25,
        ),
    )
    service.commit_seconds.observe(0.002)
    families = scrape(service)
    requests = values(families["ingestd_http_requests_total"], "code")
    assert {code: count for code, count in requests.items() if count} == {"202": 5, "429": 2, "other": 2}
    assert values(families["ingestd_intake_deferred_events_total"], "status") == {
        "429": 0,
        "503": 7,
    }
    assert values(families["ingestd_state_file_bytes"], "file") == {"db": 4096, "wal": 0}
    assert families["ingestd_disk_full"].samples[0].value == 1
    assert families["ingestd_ready"].samples[0].value == 1
    assert families["ingestd_spool_bytes"].samples[0].value == 11
    assert families["ingestd_loop_lag_seconds"].samples[0].value == 0.25
    assert values(families["ingestd_build_info"], "version") == {__version__: 1}
    buckets = values(families["ingestd_commit_seconds"], "le")
    assert (buckets["0.001"], buckets["0.0025"]) == (0, 1)
    codes[202] = 6
    assert values(scrape(service)["ingestd_http_requests_total"], "code")["202"] == 6


def test_reloads_tell_how_often_when_and_whether_the_last_one_worked() -> None:
    service = ServiceMetrics(Metrics(Ledger()).registry)
    service.reloads.note(True, wall=1_000.0)
    service.reloads.note(False, wall=2_000.0)
    families = scrape(service)
    assert values(families["ingestd_config_reloads_total"], "result") == {"ok": 1, "failed": 1}
    since = families["ingestd_config_last_reload_success_timestamp_seconds"]
    assert since.samples[0].value == 1_000.0
    assert families["ingestd_config_last_reload_successful"].samples[0].value == 0
    assert Reloads().last_ok, "none has failed yet"


def test_only_configured_producers_become_labels() -> None:
    service = ServiceMetrics(Metrics(Ledger()).registry)
    service.producers.configure(["crm", "ivr"])
    for producer, events in (("crm", 3), ("", 2), ("stranger", 4), ("crm", 1)):
        service.producers.add(producer, events)
    shown = values(scrape(service)["ingestd_producer_events_total"], "producer")
    assert shown == {"crm": 4, "ivr": 0, "anonymous": 2, "other": 4}


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["", "a", "b", "c"]), st.integers(1, 5))))
def test_no_count_falls_whatever_is_reloaded_and_none_is_lost(steps: list[tuple[bool, str, int]]) -> None:
    producers = ProducerEvents()
    total = 0
    for configure, name, events in steps:
        before = dict(producers.counts)
        if configure:
            producers.configure([name, *(f"{name}{n}" for n in range(events * 30))])
        else:
            producers.add(name, events)
            total += events
        assert all(producers.counts[label] >= count for label, count in before.items())
    assert sum(producers.counts.values()) == total
    assert len(producers.counts) <= MAX_PRODUCERS + 2
