"""What a path that no event has does to a replay: it is told. And every notation deduplicates and orders."""

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from ingestd.app.maintenance import warn_keys
from tests.each import each
from tests.integration.intake.replay_support import Place
from tests.integration.intake.support import events, running, webhook
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio

TWO = [{"orderId": "A", "version": 1, "meta": {"a.b": "x"}}] * 2


async def replay(tmp_path: Path, sent: list[Any], **options: Any) -> tuple[dict[str, Any], list[str]]:
    """(report, warnings)."""
    schema = tmp_path / "object.json"
    schema.write_text('{"type": "object"}')
    source = tmp_path / "in.ndjson"
    source.write_text("".join(json.dumps(event) + "\n" for event in sent))
    key, order = options.get("dedup_key", ""), options.get("order_by", "")
    async with Receiver() as receiver:
        sections = {"schema": {"name": str(schema), "dedup_key": key}, "delivery": {"order_by": order}}
        place = Place(tmp_path / "state", {"crm": webhook(receiver)}, sections)
        return await place.run(source), place.warnings


@each(
    "path",
    [
        *("orderId", "$.orderId", ".orderId", "/orderId", "$['orderId']", '["orderId"]', "orderId, version"),
        *(r"meta.a\.b", "$.meta['a.b']", "/meta/a.b", "$.version,/orderId"),
    ],
)
async def test_a_copy_is_a_duplicate_however_its_key_is_written(tmp_path: Path, path: str) -> None:
    report, warnings = await replay(tmp_path, TWO, dedup_key=path)
    assert (report["delivered"], report["duplicate"]) == (1, 1)
    assert warnings == []
    assert report["keys"] == [
        {"setting": "schema.dedup_key", "paths": path, "events": 2, "without_key": 0, "warning": None}
    ]


@each("path", ["orderID", "orderId[0]", "order-id", "orderId,verson", "$.meta.a.b"])
async def test_a_key_that_no_event_has_is_told_at_the_end(tmp_path: Path, path: str) -> None:
    report, warnings = await replay(tmp_path, TWO, dedup_key=path)
    assert (report["delivered"], report["duplicate"]) == (2, 0)
    told = f"no event of 2 had the dedup key `{path}`: nothing was deduplicated (schema.dedup_key)"
    assert (warnings, report["exit_code"]) == ([told], 3)
    assert [(one["without_key"], one["warning"]) for one in report["keys"]] == [(2, told)]


async def test_one_event_with_the_key_is_enough_to_say_nothing(tmp_path: Path) -> None:
    report, warnings = await replay(tmp_path, [*TWO, {"orderID": "B"}], dedup_key="orderID")
    assert (report["delivered"], warnings, report["exit_code"]) == (3, [], 0)
    assert [one["without_key"] for one in report["keys"]] == [2]


async def test_an_order_that_no_event_has_is_told_and_counted_once_for_each_event(tmp_path: Path) -> None:
    sent = [{"k": "a", "n": n} for n in range(50)]
    report, warnings = await replay(tmp_path, sent, order_by="$.conversationId")
    told = "no event of 50 had the order key `$.conversationId`: nothing was kept in order"
    assert (warnings, report["exit_code"]) == ([f"{told} (delivery.order_by)"], 3)
    assert [(one["events"], one["without_key"]) for one in report["keys"]] == [(50, 50)]
    (tmp_path / "state").rename(tmp_path / "before")
    for path in ("k", "$.k", "/k", "$['k']"):
        report, warnings = await replay(tmp_path, sent, order_by=path)
        assert warnings == []
        assert [(one["events"], one["without_key"]) for one in report["keys"]] == [(50, 0)]
        (tmp_path / "state").rename(tmp_path / f"done-{len(path)}")


async def test_a_service_says_so_in_its_log_its_status_and_its_metrics(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        sections: dict[str, Any] = {
            "schema": {"dedup_key": "attributes.nr"},
            "sinks": {"crm": webhook(receiver, order_by="attributes.key"), "quality": webhook(receiver)},
        }
        async with running(tmp_path / "state", **sections) as life:
            told: list[str] = []
            warn_keys(life.pipeline, told.append)
            assert told == []
            await life.take(*events(range(30)))
            await life.until_empty()
            for _ in range(3):
                warn_keys(life.pipeline, told.append)
            assert told == [
                "no event of 30 had the dedup key `attributes.nr`: nothing was deduplicated"
                " (schema.dedup_key)",
                "no event of 30 had the order key `attributes.key`: nothing was kept in order"
                " (sinks.crm.order_by)",
            ]
            keys = [watch.describe() for watch in life.pipeline.watches]
            assert [one["setting"] for one in keys] == ["schema.dedup_key", "sinks.crm.order_by"]
            assert [one["warning"] for one in keys] == told
            shown = generate_latest(life.pipeline.metrics.registry).decode()
    assert "\ningestd_events_without_dedup_key_total 30.0\n" in shown
    assert '\ningestd_events_without_order_key_total{sink="crm"} 30.0\n' in shown
    assert '\ningestd_events_without_order_key_total{sink="quality"} 0.0\n' in shown
