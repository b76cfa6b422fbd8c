"""Who was refused, and why: told of all edges of one machine together, of one that died, too."""

import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.event_api import event
from tests.machine import patience_of_test
from tests.process.cli.run_support import Serving, post
from tests.process.cluster.test_cluster import StrictApi, until
from tests.process.cluster.test_one_machine import OneMachine, pids
from tests.process.cluster.test_parked_sinks import asking, audited, restarted, tokens

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(patience_of_test(180))]
SHOP = "of-the-shop-that-sends-what-is-no-event"


async def both_have_refused(serving: Serving) -> bool:
    """Each address has one listener a process: the kernel chooses."""
    assert (await post(serving.ingest_port, [b'{"a":1}'], token=SHOP)).status == 422
    told = (await serving.status())["processes"]
    return all(one["status"].get("refused") for one in told if one["kind"] == "edge")


async def test_refusals_of_all_edges_are_told_as_one(tmp_path: Path) -> None:
    async with StrictApi() as api:
        (tmp_path / "shop").write_text(SHOP)
        producers = f'[ingest.producers.shop]\ntoken_file = "{tmp_path}/shop"\n'
        machine = OneMachine(tmp_path, api, tokens(tmp_path) + producers)
        async with machine.start() as serving, asking(serving) as client:
            await until(partial(both_have_refused, serving))
            assert (await post(serving.ingest_port, [event(1)], token="of-nobody")).status == 401
            assert (await post(serving.ingest_port, [event(1)], token=SHOP)).status == 202

            async def told() -> tuple[dict[str, Any], dict[str, Any]]:
                answer = (await client.get("/v1/producers")).json()
                (shop,) = [one for one in answer["producers"] if one["name"] == "shop"] or [{"refused": 0}]
                return shop, {one["producer"]: one for one in answer["refusals"]}

            async def all_told() -> bool:
                shop, refusals = await told()
                sum_of = await refused_at_edges(serving)
                return shop["refused"] == sum_of["shop"] and refusals.keys() == {"shop", ""}

            await until(all_told)
            shop, refusals = await told()
            assert shop["accepted"] == 1
            assert refusals["shop"]["status"] == 422
            assert refusals["shop"]["times"] == shop["refused"] >= 2
            assert refusals["shop"]["address"] == "127.0.0.1"
            assert (refusals[""]["status"], refusals[""]["times"]) == (401, 1)
            assert refusals[""]["why"]
            assert [*refusals] == ["", "shop"]  # the latest first
            assert [one["times"] for one in (await serving.status())["refused"]] == [1, shop["refused"]]
            page = (await client.get("/producers")).text
            assert "shop" in page
            assert refusals["shop"]["why"].partition(":")[0] in page
            os.kill((await pids(serving))["edge-1"], signal.SIGKILL)
            await until(partial(restarted, serving, "edge-1"))
            await client.get("/v1/overview")

            async def as_before() -> bool:
                return bool((await told())[1]["shop"]["times"] == shop["refused"])

            await until(as_before)
            assert (await told())[0]["refused"] == shop["refused"]
            await serving.stop()
        assert SHOP not in (tmp_path / "state/audit.jsonl").read_text()
        noted = audited(tmp_path, "PRODUCER_REFUSED")
        assert {(one.get("producer"), one["status"]) for one in noted} == {("shop", 422), (None, 401)}


async def refused_at_edges(serving: Serving) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for one in (await serving.status())["processes"]:
        for name, counts in (
            one["status"].get("refused_requests", {}).items() if one["kind"] == "edge" else ()
        ):
            found[name] = found.get(name, 0) + counts["refused"]
    return found
