"""Commands on a spool of three servers of which one is down."""

import asyncio
from pathlib import Path

import pytest

from tests.machine import patience, patience_of_test
from tests.nats_server import nats_servers
from tests.process.cluster.support import ALWAYS, Cluster

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(patience_of_test(180))]


async def test_commands_work_and_say_which_server_is_down(tmp_path: Path) -> None:
    """The first one, which each command would ask first. Who fails meanwhile, since another leader is not
    chosen yet, says so, too."""
    with nats_servers(tmp_path / "nats", 3, ALWAYS) as servers:
        cluster = Cluster(tmp_path, servers, "http://127.0.0.1:9", {"one": ""}, partitions=1)
        await when_it_has_a_leader(cluster, "spool", "init")
        code, out, err = await cluster.command("spool", "check")
        assert (code, "is down" in out) == (0, False), (out, err)
        servers[0].kill()
        words = f"{servers[0].url} is down: Connection refused"
        _, err = await when_it_has_a_leader(cluster, "spool", "stat", otherwise=words)
        assert err == f"{words}\n"
        out, _ = await when_it_has_a_leader(cluster, "spool", "check", otherwise=words)
        assert (out.count("is down"), f"warn {words}\n" in out) == (1, True), out


async def when_it_has_a_leader(cluster: Cluster, *words: str, otherwise: str = "") -> tuple[str, str]:
    """What it prints, in the end; ``otherwise``: what it says of why it cannot now."""
    async with asyncio.timeout(patience(30)):
        while True:
            code, out, err = await cluster.command(*words)
            if not code:
                return out, err
            assert otherwise in out + err
            await asyncio.sleep(0.2)
