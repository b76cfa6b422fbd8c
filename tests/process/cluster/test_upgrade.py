"""Another version of ingestd beside this one: a copy of the package, which says so."""

import asyncio
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

import ingestd
from tests.machine import patience_of_test
from tests.process.cli.support import COMMAND
from tests.process.cluster.support import AnyEdge, ClusterProducer, ended
from tests.process.cluster.test_cluster import StrictApi, one_sink, settled, until
from tests.warm import Warm, WarmServer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(patience_of_test(180))]
OTHER = "99.0.0"


def other_version(directory: Path, *, stream_format: int | None = None) -> Path:
    """``python -m`` in this directory runs it. What is compiled already is copied too: only files that differ
    are compiled again."""
    package = directory / "ingestd"
    shutil.copytree(
        Path(ingestd.__file__).parent, package, ignore=shutil.ignore_patterns("accelerator", "*.pyc.*")
    )
    first = package / "__init__.py"
    first.write_text(first.read_text().replace(f'"{ingestd.__version__}"', f'"{OTHER}"'))
    if stream_format:
        made = package / "cluster/installation.py"
        made.write_text(made.read_text().replace("\nFORMAT = 1\n", f"\nFORMAT = {stream_format}\n"))
        assert f"\nFORMAT = {stream_format}\n" in made.read_text()
    return directory


@contextmanager
def warmed(modules: Path) -> Iterator[Warm]:
    """Starts processes of the other version."""
    with tempfile.TemporaryDirectory(prefix="ingestd-") as name:  # short: the path of a socket
        server = WarmServer(Path(name), beside=modules)
        try:
            yield Warm(Path(name))
        finally:
            server.close()


@pytest.mark.slow(
    "tests/process/cluster/test_upgrade.py::test_a_version_with_another_format_is_refused_and_the_others_go_on",
    "tests/process/cluster/test_cluster.py::test_the_next_owner_repeats_the_batches_of_a_killed_worker_within_seconds",
    "tests/process/cluster/test_cluster.py::test_shares_are_spread_and_one_worker_owns_all_of_a_sink_with_a_rate",
    "tests/integration/cluster/test_membership.py::test_what_was_heard_before_a_loss_and_what_another_version_says_do_not_count",
)
async def test_a_new_version_is_rolled_out_while_producers_are_answered(tmp_path: Path) -> None:
    """Workers first, then edges, one after the other; what each acknowledged is delivered once."""
    with warmed(other_version(tmp_path / "other")) as other:
        await roll_out(tmp_path, other)


async def roll_out(tmp_path: Path, other: Warm) -> None:
    async with (
        StrictApi() as api,
        one_sink(tmp_path, api, partitions=4) as cluster,
        AsyncExitStack() as stack,
    ):
        old = [
            await stack.enter_async_context(cluster.start(flag))
            for flag in ("--worker", "--worker", "--edge", "--edge")
        ]
        edges, stop = AnyEdge(random.Random(1)), asyncio.Event()
        edges.ports = {str(number): one.ingest_port for number, one in enumerate(old[2:])}
        producers = [
            ClusterProducer(f"p{number}", random.Random(number), ill=0.0, pause_s=0.2) for number in range(2)
        ]
        tasks = [asyncio.create_task(one.work(edges, stop)) for one in producers]
        new = []
        for number, one in enumerate(old):
            is_edge = number >= len(old) // 2
            before = sum(producer.answers for producer in producers)
            await until(lambda before=before: sum(one.answers for one in producers) > before + 5)  # type: ignore[misc]
            if is_edge:
                edges.ports.pop(str(number - 2))
            assert (await one.stop()).code == 0
            flag = "--edge" if is_edge else "--worker"
            new.append(await stack.enter_async_context(cluster.start(flag, by=other)))
            if is_edge:
                edges.ports[str(number - 2)] = new[-1].ingest_port
            versions = {member["version"] for member in (await cluster.json("workers"))["members"]}
            assert OTHER in versions
        assert versions == {OTHER}
        stop.set()
        await ended(tasks, *new)
        sink = await settled(cluster)
        given = [event for one in producers for event in one.acknowledged]
        assert sorted(api.taken) == sorted(given)
        assert all(len(bodies) == 1 for bodies in api.bodies.values())
        assert sink["delivered"] == len(given) > 0
        assert [problem for one in producers for problem in one.problems] == []
        for one in new:
            one.send(signal.SIGTERM)


async def test_a_version_with_another_format_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    modules = other_version(tmp_path / "other", stream_format=2)
    async with StrictApi() as api, one_sink(tmp_path, api) as cluster, cluster.start("--worker") as worker:
        for flag in ("--edge", "--worker"):
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                *("run", "--config", str(cluster.config), flag, "--admin-listen", "127.0.0.1:0"),
                cwd=modules,
                stderr=asyncio.subprocess.PIPE,
            )
            _, err = await process.communicate()
            assert process.returncode == 2
            assert b"the version of ingestd is 2 here and 1 there" in err
        assert (await worker.status())["ready"]
        await worker.stop()
