"""Commands for the spool of ``spool.workers`` while nothing runs: they start its server for a moment."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import patience_of_test
from tests.process.cli.run_support import post
from tests.process.cluster.test_cluster import StrictApi, until
from tests.process.cluster.test_one_machine import OneMachine
from tests.process.cluster.test_parked_sinks import command
from tests.process.soak.events import Maker

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(patience_of_test(180))]
SERVICE = 64_011
"""A user who is nobody here."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where other users get to."""
    found = Path(tempfile.mkdtemp(prefix="ingestd-test-", dir="/tmp"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


def owners(directory: Path) -> set[int]:
    return {path.lstat().st_uid for path in (directory, *directory.rglob("*"))}


async def test_what_waits_is_told_and_dropped_while_nothing_runs(place: Path) -> None:
    async with StrictApi() as api:
        machine = OneMachine(place, api)
        code, _, err = await command(machine, "spool", "stat")
        assert (code, "has not been started here yet" in err) == (2, True), err
        given = Maker("p", random.Random(3), ill=0.0).many(40, pad=0)
        async with machine.start() as serving:
            assert await command(machine, "spool", "park", "one") == (0, "one is parked\n", "")
            assert (await post(serving.ingest_port, given)).status == 202
            await serving.stop()
        streams = place / "state/nats"
        if os.geteuid() == 0:  # root looks at the spool of a user
            for path in (streams, *streams.rglob("*")):
                os.chown(path, SERVICE, SERVICE)
        found = await machine.json("spool", "stat")
        assert [(one["accepted"], one["in_flight"]) for one in found["sinks"]] == [(40, 40)]
        assert (await command(machine, "spool", "check"))[0] == 0
        assert (await machine.ask("where", given[7].decode(), "--config", str(machine.config), "--json"))[
            "waiting"
        ]
        assert (await machine.json("dlq", "list"))["letters"] == []
        code, _, err = await command(machine, "spool", "probe", "one")
        assert (code, "`ingestd run` tries one as soon as it begins" in err, "Traceback" in err) == (
            2,
            True,
            False,
        ), err
        for words in (("spool", "resize", "3"), ("workers",)):
            code, _, err = await command(machine, *words)
            assert (code, err.startswith("ingestd: nothing runs here: "), "`ingestd run`" in err) == (
                2,
                True,
                True,
            ), err
        assert (await command(machine, "spool", "init"))[0] == 0
        if os.geteuid() == 0:
            assert owners(streams) == {SERVICE}
        async with machine.start() as serving:  # nobody has the directory any more, and nothing is lost
            assert await command(machine, "spool", "resume", "one") == (0, "one is resumed\n", "")
            await until(lambda: len(api.taken) == 40)
            await serving.stop()
        assert sorted(api.taken) == sorted(given)
        done = await command(machine, "spool", "forget", "one", "--yes")
        dropped = "dropped up to 0 events of sink one (0 chunks; no other sink waits for 0 of them)\n"
        assert done[:2] == (0, dropped), done[2]
        assert (await machine.json("spool", "stat"))["sinks"] == []
