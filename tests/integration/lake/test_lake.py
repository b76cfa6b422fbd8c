import json
import os
import time
from pathlib import Path
from typing import Any

import anyio
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.sinks.lake import LakeLayout
from ingestd.store.connection import ReadConnection, StoreFailed
from ingestd.store.database import Database
from ingestd.telemetry.audit_entry import AuditEntry
from tests.effort import examples
from tests.integration.lake.support import (
    AT,
    Store,
    add,
    event,
    events_in,
    lake_in,
    manifest_of,
    names,
    opened,
    running,
    unfinished,
    until,
)
from tests.machine import patience

pytestmark = pytest.mark.anyio


async def test_a_file_is_written_when_its_events_have_waited_long_enough(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    async with (
        opened(tmp_path / "state") as database,
        lake_in(database, Store(root), file_age_s=0.05) as lake,
        running(lake),
    ):
        await add(database, lake, [event(1), event(2, kind="order.paid", hour=10)])
        await until(lambda: lake.files_written == 2 and not lake.outbox.rows)
        assert lake.oldest_age_s == 0
    first, second = names(root)
    assert first.startswith("date=2026-11-21/hour=09/type=order.created/1-1-")
    assert second.startswith("date=2026-11-21/hour=10/type=order.paid/1-1-")
    assert sorted(events_in(root)) == sorted([event(1), event(2, kind="order.paid", hour=10)])
    assert unfinished(root) == []


async def test_a_file_is_written_when_there_is_enough_for_it_and_not_before(tmp_path: Path) -> None:
    async with (
        opened(tmp_path / "state") as database,
        lake_in(database, Store(tmp_path / "lake"), file_bytes=600) as lake,
        running(lake),
    ):
        for number in range(10):
            await add(database, lake, [event(number)], at=time.time())
        assert lake.files_written == 0
        for number in range(10, 20):
            await add(database, lake, [event(number)], at=time.time())
        await until(lambda: lake.files_written)


async def test_what_was_gathered_is_written_on_the_way_out(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    async with opened(tmp_path / "state") as database, lake_in(database, Store(root)) as lake:
        await add(database, lake, [event(n) for n in range(1000)])  # more than a file's bytes
        await add(database, lake, [event(n) for n in range(1000, 1010)])
        assert await lake.drain(5) == (0, 0, 0)
    assert len(events_in(root)) == 1010
    assert len(names(root)) == 2


async def test_a_lake_out_of_reach_is_tried_again_and_told_of_once(tmp_path: Path) -> None:
    root, warnings, lines = tmp_path / "lake", list[str](), list[tuple[AuditEntry, dict[str, Any]]]()
    store = Store(root)
    store.fault = lambda key: Answer(503, body=b"SlowDown")

    def audit(entry: AuditEntry, /, **fields: Any) -> None:
        lines.append((entry, fields))

    async with (
        opened(tmp_path / "state") as database,
        lake_in(database, store, file_age_s=0.01, warn=warnings.append, audit=audit) as lake,
        running(lake),
    ):
        await add(database, lake, [event(1)], request_id="r-1", latency_s=0.1234)
        await until(lambda: lake.failures >= 3)
        assert len(warnings) == 1
        assert "503 SlowDown" in warnings[0]
        assert lake.problem == "503 SlowDown"
        assert lake.outbox.events == 1
        store.fault = lambda key: None
        await until(lambda: not lake.outbox.rows and len(lines) == 2)
        assert "again" in warnings[1]
    assert events_in(root) == [event(1)]
    waiting, written = lines
    assert waiting[1]["sync_status"] == "waiting"
    assert written == (
        AuditEntry.DATA_LAKE_SYNC,
        {
            "sink": "lake",
            "sync_status": "written",
            "target": str(root),
            "request_id": "r-1",
            "latency_ms": 123.4,
            "events": 1,
        },
    )


async def test_on_the_way_out_a_lake_out_of_reach_is_tried_once_and_the_events_stay(tmp_path: Path) -> None:
    store = Store(tmp_path / "lake")
    store.fault = lambda key: Answer(403, body=b"AccessDenied")
    async with opened(tmp_path / "state") as database, lake_in(database, store) as lake:
        await add(database, lake, [event(1)])
        with anyio.fail_after(patience(5)):  # not the fifteen seconds that a refused lake is left alone
            assert (await lake.drain(60)).events == 1
        assert store.dropped == 1
    store.fault = lambda key: None
    async with opened(tmp_path / "state") as database, lake_in(database, store) as lake:
        assert lake.outbox.events == 1
        await lake.drain(5)
    assert events_in(tmp_path / "lake") == [event(1)]


async def test_a_lake_that_is_drained_while_it_runs_is_tried_once_more_and_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "lake")
    store.fault = lambda key: Answer(503)
    async with (
        opened(tmp_path / "state") as database,
        lake_in(database, store, file_age_s=0.001, backoff=Backoff(base_s=60, cap_s=60)) as lake,
        running(lake),
    ):
        await add(database, lake, [event(1)])
        await until(lambda: lake.failures)
        before = lake.failures
        for _ in range(5):  # between them, whoever else wants has a turn
            assert (await lake.drain(5)).events == 1
        assert lake.failures == before + 5


async def test_after_a_failure_only_what_is_missing_is_sent_again(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    store = Store(root)
    broken = "type=t3"
    store.fault = lambda key: Answer(500) if broken in key else None
    async with opened(tmp_path / "state") as database, lake_in(database, store, max_in_flight=1) as lake:
        await add(database, lake, [event(n, kind=f"t{n}") for n in range(6)])
        await lake.drain(5)
        assert next(key for key in store.sent if broken in key) == store.sent[-1]
        store.fault = lambda key: None
        store.sent.clear()
        await lake.drain(5)
        assert len(store.sent) == 6  # three files and their manifests
    assert len(events_in(root)) == 6


async def test_a_manifest_comes_after_its_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "lake")
    async with opened(tmp_path / "state") as database, lake_in(database, store) as lake:
        await add(database, lake, [event(1)])
        await lake.drain(5)
    file, manifest = store.sent
    assert manifest == file.replace("created/", "created/_") + ".manifest.json"


async def test_a_load_that_was_begun_is_ended_as_it_was_begun(tmp_path: Path) -> None:
    """Otherwise a changed setting would leave some events in the lake twice."""
    root = tmp_path / "lake"
    store = Store(root)
    store.fault = lambda key: Answer(500) if "type=b" in key else None
    async with (
        opened(tmp_path / "state") as database,
        lake_in(database, store, layout=LakeLayout(partition="type")) as lake,
    ):
        await add(database, lake, [event(1, kind="a"), event(2, kind="b")])
        await lake.drain(5)
        assert lake.outbox.rows == 1
    store.fault = lambda key: None
    async with (
        opened(tmp_path / "state") as database,
        lake_in(database, store, layout=LakeLayout(partition="date")) as lake,
    ):
        await lake.drain(5)
        await add(database, lake, [event(3, kind="a")])
        await lake.drain(5)
    assert [name.split("/")[0] for name in names(root)] == ["date=2026-11-21", "type=a", "type=b"]
    assert sorted(events_in(root)) == sorted([event(1, kind="a"), event(2, kind="b"), event(3, kind="a")])


async def test_a_fault_that_nobody_thought_of_holds_up_the_lake_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path / "lake")

    def break_down(key: str) -> Answer:
        raise RuntimeError("with a secret in it")

    store.fault = break_down
    warnings: list[str] = []
    async with (
        opened(tmp_path / "state") as database,
        lake_in(database, store, file_age_s=0.01, warn=warnings.append) as lake,
        running(lake),
    ):
        await add(database, lake, [event(1)])
        await until(lambda: lake.problem)
        assert lake.problem == "RuntimeError while writing rows 1 to 1"
        assert await add(database, lake, [event(2)])


async def test_a_state_file_that_fails_ends_the_lake_with_its_reason(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open()
    async with lake_in(database, Store(tmp_path / "lake")) as lake:
        await add(database, lake, [event(n) for n in range(1000)])
        os.unlink(tmp_path / "state.db")
        with pytest.raises(StoreFailed):
            await database.run(lambda connection: None)
        with (
            anyio.fail_after(patience(5)),
            pytest.raises(StoreFailed, match="was removed while it was in use"),
        ):
            await lake.run()
    await database.close()


async def test_an_outbox_that_cannot_be_read_holds_up_the_lake_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    async with opened(tmp_path / "state") as database, lake_in(database, Store(root)) as lake:
        await add(database, lake, [event(1)])
        usual, database.reads = database.reads, ReadConnection(tmp_path / "away/state.db")
        assert (await lake.drain(5)).events == 1
        assert "unable to open" in lake.problem
        database.reads = usual
        await add(database, lake, [event(2)])
        assert (await lake.drain(5)).events == 0
    assert events_in(root) == [event(1), event(2)]


async def test_parquet_is_read_back_with_its_columns_and_folders(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    pretty = b'{\n  "type": "a",\n  "time": "2026-11-21T10:30:00.5+01:00"\n}'
    layout = LakeLayout(format="parquet")
    async with opened(tmp_path / "state") as database, lake_in(database, Store(root), layout=layout) as lake:
        await add(database, lake, [pretty, event(1)], request_id="r-1", latency_s=0.5)
        await add(database, lake, [b'{"no":"time"}'])
        await lake.drain(5)
    rows = pq.read_table(root, partitioning="hive").sort_by("event").to_pylist()
    assert [(r["event"].encode(), r["event_type"], str(r["hour"])) for r in rows] == [
        (pretty, "a", "09"),
        (event(1), "order.created", "09"),
        (b'{"no":"time"}', None, "unknown"),
    ]
    assert rows[0]["event_time"].isoformat() == "2026-11-21T09:30:00.500000+00:00"
    assert (rows[0]["request_id"], rows[0]["latency_ms"]) == ("r-1", 500.0)
    assert (rows[2]["request_id"], rows[2]["latency_ms"], rows[2]["event_time"]) == (None, None, None)
    assert rows[0]["at"].timestamp() == AT
    assert ds.dataset(root, format="parquet", partitioning="hive").count_rows() == 3


async def test_a_manifest_names_the_requests_that_delivered_its_events(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    async with opened(tmp_path / "state") as database, lake_in(database, Store(root)) as lake:
        await add(database, lake, [event(1), event(2)], request_id="r-1", latency_s=0.5)
        await add(database, lake, [event(3), event(4, kind="other")], request_id="r-2", latency_s=0.25)
        await lake.drain(5)
    (name,) = [name for name in names(root) if "order.created" in name]
    manifest = manifest_of(root, name)
    assert manifest["version"] == 1
    assert manifest["first_time"] == manifest["last_time"] == "2026-11-21T09:00:00.000Z"
    assert [(r["id"], r["events"], r["latency_ms"]) for r in manifest["requests"]] == [
        ("r-1", 2, 500.0),
        ("r-2", 1, 250.0),
    ]


_BATCHES = st.lists(
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["a", "b", "../c", ""]), "time": st.sampled_from(["2026-01-01", "x", 7])}
        ),
        min_size=1,
        max_size=8,
    ),
    min_size=1,
    max_size=8,
)


_FAULTS = st.lists(st.booleans(), max_size=9)


@settings(max_examples=examples(8))
@given(
    batches=_BATCHES, file_bytes=st.sampled_from([1, 100, 10_000]), faults=st.lists(st.booleans(), max_size=9)
)
async def test_each_event_that_is_added_is_in_exactly_one_file(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[dict[str, Any]]],
    file_bytes: int,
    faults: list[bool],
) -> None:
    """Whatever the batches, the files' size, failures on the way and a restart in the middle."""
    directory = tmp_path_factory.mktemp("p")
    store = Store(directory / "lake")
    store.fault = lambda key: Answer(500) if faults and faults.pop() else None
    added: list[bytes] = []
    for half in (batches[::2], batches[1::2]):
        async with (
            opened(directory / "state") as database,
            lake_in(database, store, file_bytes=file_bytes) as lake,
        ):
            for batch in half:
                events = [json.dumps({"id": len(added) + i, **one}).encode() for i, one in enumerate(batch)]
                await add(database, lake, events)
                added += events
            await lake.drain(5)
    faults.clear()
    async with opened(directory / "state") as database, lake_in(database, store) as lake:
        assert await lake.drain(5) == (0, 0, 0)
    assert sorted(events_in(directory / "lake")) == sorted(added)
