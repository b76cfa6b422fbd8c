"""What dashboard, alerts and docs ask for is what ingestd exports, and every alert is worth its name."""

import re
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector

from ingestd.core.reasons import REJECTED, Reason
from ingestd.telemetry.catalogue import CATALOGUE
from tests.each import each
from tests.process.deploy.support import ROOT, alerts, dashboard, queries, yaml


def exported() -> set[str]:
    """Every series name a scrape may have."""
    names = {"up"}
    for name, (kind, _) in CATALOGUE.items():
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {name + part for part in parts}
    for metric in ProcessCollector(registry=CollectorRegistry()).collect():
        names |= {sample.name for sample in metric.samples}
    return names


def named_in(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from re.findall(r"\b(?:ingestd|process)_[a-z0-9_]+", text)


def unknown(texts: Iterable[str]) -> list[str]:
    return sorted(set(named_in(texts)) - exported() - set(CATALOGUE))


def test_every_series_of_the_dashboard_is_exported() -> None:
    asked = set(named_in(query for _, query in queries()))
    assert len(asked) > 30
    assert sorted(asked - exported()) == []


def test_every_series_of_the_alerts_is_exported() -> None:
    asked = set(named_in(rule["expr"] for rule in alerts().values()))
    assert len(asked) > 15
    assert sorted(asked - exported()) == []


def test_every_metric_that_a_runbook_or_a_document_names_is_in_the_catalogue() -> None:
    runbooks = (str(rule["annotations"]) for rule in alerts().values())
    panels = (panel.get("description", "") for panel in dashboard()["panels"])
    files = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")]
    documents = (path.read_text(encoding="utf-8") for path in files)
    assert unknown([*runbooks, *panels, *documents]) == []


def test_every_metric_of_the_catalogue_is_on_the_dashboard_but_these() -> None:
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in named_in(query for _, query in queries())}
    assert CATALOGUE.keys() - shown == {
        "ingestd_unmatched_item_errors_total",  # a fault of the API's answers: the audit file has it
        "ingestd_batch_bytes",  # events in a batch and bytes sent are shown
        "ingestd_config_last_reload_success_timestamp_seconds",
        "ingestd_spans_total",  # of traces: the log says why they do not arrive
    }


def test_dead_letter_reasons_in_the_alerts_are_reasons() -> None:
    excluded = re.findall(r'reason!~"([^"]+)"', alerts()["IngestdDeadLetters"]["expr"])
    assert [set(each.split("|")) for each in excluded] == [{str(reason) for reason in REJECTED}]
    assert set(REJECTED) < set(Reason)


@each("name", alerts())
def test_every_alert_says_how_bad_it_is_and_what_to_look_at(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "runbook"}
    assert rule["annotations"]["runbook"].endswith(".")


@each("name", alerts())
def test_every_alert_is_tested_in_silence_and_firing(name: str) -> None:
    firing = f'alertname="{name}"'
    shown = False
    for case in (
        yaml("prometheus/alerts_test.yml")["tests"] + yaml("prometheus/alerts_hours_test.yml")["tests"]
    ):
        moments = [str(moment["exp_samples"]) for moment in case["promql_expr_test"]]
        if any(firing in moment for moment in moments):
            shown = True
            assert firing not in moments[0], f"{case['name']}: {name} is never seen silent"
    assert shown, f"no case in which {name} fires"


def test_panels_lie_beside_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert 0 <= x < 24
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))


def test_the_dashboard_asks_for_the_job_and_the_data_source_that_are_there() -> None:
    jobs = {job["job_name"] for job in yaml("prometheus/prometheus.yml")["scrape_configs"]}
    asked = {job for _, query in queries() for job in re.findall(r'job="([^"]*)"', query)}
    assert asked == {"ingestd"}
    assert asked < jobs
    [source] = yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert dashboard()["templating"]["list"][0]["current"]["value"] == source["uid"]
