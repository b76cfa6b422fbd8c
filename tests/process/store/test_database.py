"""Processes that are killed or refused while they write the database."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ingestd.store.database import Database
from tests.each import each
from tests.integration.store.test_database import insert, names, reopened
from tests.integration.store.tmpfs import small_disk
from tests.machine import patience

pytestmark = pytest.mark.anyio


WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from ingestd.store.connection import StoreFailed
from ingestd.store.database import Database

async def main():
    database = Database(Path(sys.argv[1]))
    await database.open()
    for number in itertools.count():
        row = f"n{number}", "x" * int(sys.argv[2])
        database.note(lambda c: c.execute("INSERT INTO meta VALUES (?, ?)", row))
        await database.commit()
        print(number, flush=True)

try:
    asyncio.run(main())
except StoreFailed as error:
    print(error, flush=True)
"""


def writer(directory: Path, size: int = 100, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, str(directory), str(size)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]


def killed_after(directory: Path, acknowledged: int) -> int:
    """kill -9 after so many acknowledged commits; the number of the last one."""
    with writer(directory) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) >= acknowledged:
                process.send_signal(signal.SIGKILL)
                break
        return max([int(line) for line in process.stdout if line.endswith("\n")], default=acknowledged)


@each("acknowledged", [0, 3, 200])
async def test_nothing_acknowledged_is_missing_after_kill_9(acknowledged: int, tmp_path: Path) -> None:
    last = killed_after(tmp_path, acknowledged)
    database = await reopened(tmp_path)
    assert database.writer.warning == ""
    assert names(tmp_path) >= {f"n{number}" for number in range(last + 1)}


@each("damage", ["flipped bit", "gone"])
async def test_a_damaged_write_ahead_log_is_told(damage: str, tmp_path: Path) -> None:
    killed_after(tmp_path, 50)
    log = tmp_path / "state.db-wal"
    data = bytearray(log.read_bytes())
    if damage == "gone":
        log.unlink()
    else:
        data[len(data) // 2] ^= 1
        log.write_bytes(data)
    database = await reopened(tmp_path)
    assert "has lost its last" in database.writer.warning
    assert "damaged write-ahead log" in database.writer.warning
    assert len(names(tmp_path)) < 51
    again = Database(tmp_path)
    await again.open()
    await again.run(insert("later"))
    await again.close()
    assert (await reopened(tmp_path)).writer.warning == "", "not said of later runs"


async def test_the_mark_is_only_a_witness_and_may_be_damaged_itself(tmp_path: Path) -> None:
    killed_after(tmp_path, 3)
    (tmp_path / "state.mark").write_bytes(b"nonsense")
    assert (await reopened(tmp_path)).writer.warning == ""
    assert len(names(tmp_path)) >= 4


def test_a_full_disk_is_a_clear_error_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    with small_disk(tmp_path / "tiny", megabytes=1) as tiny:
        assert_fails_clearly(tiny, writer(tiny, size=20_000))


def test_a_write_that_the_system_refuses_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    limit = (500_000, 500_000)
    limited = writer(tmp_path, 20_000, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert_fails_clearly(tmp_path, limited)


def assert_fails_clearly(directory: Path, process: "subprocess.Popen[str]") -> None:
    output, _ = process.communicate(timeout=patience(30))
    *acknowledged, error = output.splitlines()
    assert "is full: free some space and start again; nothing is lost" in error
    assert len(acknowledged) > 3
    assert names(directory) >= {f"n{number}" for number in acknowledged}
