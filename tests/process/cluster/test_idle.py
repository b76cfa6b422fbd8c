"""Edges and workers that have nothing to do sleep, however many shares they have."""

import asyncio
import random
import re
import time
from functools import partial
from pathlib import Path

import pytest

from tests.machine import patience_of_test
from tests.process.cli.run_support import Serving, post
from tests.process.cluster.test_cluster import StrictApi, one_sink, until
from tests.process.cluster.test_parked_sinks import owns_some
from tests.process.soak.events import Maker

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(patience_of_test(120))]


def sleeps(serving: Serving) -> int:
    """How often the thread of its loop has waited since it began."""
    status = Path(f"/proc/{serving.process.pid}/status").read_text()
    found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", status, re.MULTILINE)
    assert found
    return int(found[1])


async def wakes_seldom(serving: Serving) -> bool:
    before, began = sleeps(serving), time.monotonic()
    await asyncio.sleep(2.0)  # that is what is measured
    rate = (sleeps(serving) - before) / (time.monotonic() - began)
    print(f"{rate:.1f} times a second")
    return rate < 15


async def test_an_idle_edge_and_worker_wake_some_ten_times_a_second(tmp_path: Path) -> None:
    async with (
        StrictApi() as api,
        one_sink(tmp_path, api, partitions=8) as cluster,
        cluster.start("--edge") as edge,
        cluster.start("--worker") as worker,
    ):
        await until(partial(owns_some, worker))
        given = Maker("p", random.Random(3), ill=0.0).many(40, pad=0)
        assert (await post(edge.ingest_port, given)).status == 202
        await until(lambda: len(api.taken) == 40)
        for one in (worker, edge):
            await until(partial(wakes_seldom, one))
        more = Maker("q", random.Random(4), ill=0.0).many(40, pad=0)  # it is awake at once
        assert (await post(edge.ingest_port, more)).status == 202
        await until(lambda: len(api.taken) == 80)
        await worker.stop()
        await edge.stop()
