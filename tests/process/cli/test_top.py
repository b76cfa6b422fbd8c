"""``ingestd top`` shows on any terminal what the console shows."""

import io
import json
from typing import Any

import pytest
from anyio import to_thread
from rich.console import Console

from ingestd.cli.top import render
from tests.each import each
from tests.event_api import EventApi, event
from tests.process.cli.run_support import post, serve
from tests.process.cli.support import Place, invoke

RATES = {"now": 1234.5, "five_minutes": 1000.0, "hour": 12.25}
SINK: dict[str, Any] = {
    "name": "north",
    "state": "open",
    "parked": None,
    "since": 100.0,
    "why": "503 from the API: the gateway behind it is away for maintenance until tomorrow",
    "next_probe": 3.2,
    "last_success": 90.0,
    "behind_chunks": 12_345,
    "oldest": 4000.0,
    "dead_lettered": 17,
    "rates": RATES,
    "p50": 0.012,
    "p99": 1.5,
}
WELL = {
    **SINK,
    "name": "a-sink-with-a-name-that-is-rather-long",
    "state": "closed",
    "why": "",
    "next_probe": None,
}
TOLD: dict[str, Any] = {
    "version": "1.0",
    "pid": 7,
    "state": "running",
    "started": 0.0,
    "now": 5000.0,
    "ready": False,
    "reasons": ["spool: holds all it may"],
    "accepted": RATES,
    "delivered": RATES,
    "spool": {
        "bytes": 2**30,
        "parked_bytes": 2**29,
        "max_bytes": 2**32,
        "oldest": 61.0,
        "full_in": 7200.0,
        "filled_by": "north",
    },
    "sinks": [SINK, WELL],
    "producers": [{"name": "crm", "accepted": 5, "rates": RATES}],
    "letters": {"waiting": 17},
}


@each("width", [80, 100, 140])
def test_every_line_fits_and_tells_why_a_sink_does_not_work(width: int) -> None:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render(TOLD, width))
    shown = out.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    flat = " ".join(shown.split())
    told = ["not ready", "spool: holds all it may", "away 1h 21m", "12 ms", "full in 2h 0m", "12,345"]
    told += ["spool 512MiB of 4GiB", "most of it for north", "512MiB more for parked sinks"]
    assert [words for words in [*told, "crm", "503 from"] if words not in flat] == []


@each("by", ["person", "max_backlog"])
def test_a_parked_sink_says_by_whom(by: str) -> None:
    out = io.StringIO()
    told = TOLD | {"sinks": [SINK | {"state": "parked", "parked": by}]}
    Console(file=out, width=100, highlight=False).print(render(told, 100))
    assert "north parked 1h 21m" in " ".join(out.getvalue().split())
    assert f"parked {'by a person' if by == 'person' else 'at its max_backlog'}" in out.getvalue()


@pytest.mark.anyio
async def test_it_asks_a_running_service_and_says_kindly_when_there_is_none(place: Place) -> None:
    async with EventApi() as api, serve(place, api) as serving:
        assert (await post(serving.ingest_port, [event(1)])).status == 202
        await serving.until_empty()
        url = f"http://127.0.0.1:{serving.admin_port}"
        told = json.loads((await to_thread.run_sync(invoke, ["top", url, "--once", "--json"])).out)
        assert told["sinks"][0]["delivered"] == 1
    gone = await to_thread.run_sync(invoke, ["top", url, "--once"])
    assert gone.code == 2
    assert "no service answers at" in gone.err
