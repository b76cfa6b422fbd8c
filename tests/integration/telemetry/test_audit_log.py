import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.errors import UserError
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from ingestd.telemetry.audit_verification import verify
from ingestd.telemetry.instruments import MAX_FIELD
from tests.each import each
from tests.integration.store.tmpfs import fill, small_disk


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_every_entry_is_one_line_of_json(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "deep" / "audit.jsonl")
    log(AuditEntry.RUN_STARTED, api="https://x", port=None)
    log(AuditEntry.BATCH_DELIVERED, events=3, ok=True, latency_ms=1.5)
    log.flush()
    first, second = lines(log.path)
    assert first.pop("time").endswith("+00:00")
    assert [len(line.pop("chain").split(":")) for line in (first, second)] == [4, 3]
    assert first == {"event": "RUN_STARTED", "api": "https://x", "port": None}
    assert {**second, "time": ""} == {
        "time": "",
        "event": "BATCH_DELIVERED",
        "events": 3,
        "ok": True,
        "latency_ms": 1.5,
    }
    log.close()
    assert log.path.stat().st_mode & 0o777 == 0o600


@given(st.text(st.characters(codec=None)))
def test_no_field_can_forge_a_line_or_reach_a_terminal(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    log = AuditLog(tmp_path_factory.mktemp("audit") / "audit.jsonl")
    log(AuditEntry.DEAD_LETTERED, error="\r\n\x1b[31m\u2028" + text)
    log.close()
    data = log.path.read_bytes()
    assert data.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in data[:-1])
    assert lines(log.path)[0]["error"] == "\r\n\x1b[31m\u2028" + text


def test_a_long_field_is_cut(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log(AuditEntry.DEAD_LETTERED, error="e" * 10_000)
    log.close()
    assert lines(log.path)[0]["error"] == "e" * MAX_FIELD


@each("keep", [1, 3])
def test_rotation_keeps_so_many_files_of_so_many_bytes(keep: int, tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=1000, keep=keep)
    for number in range(200):
        log(AuditEntry.BATCH_DELIVERED, events=number)
    log.close()
    files = [log.path, *(log.path.with_name(f"audit.jsonl.{n}") for n in range(1, keep + 1))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    kept = [line["events"] for path in reversed(files) for line in lines(path)]
    assert kept == list(range(200))[-len(kept) :]
    assert all(path.stat().st_size < 1200 for path in files)
    assert len(kept) > keep * 5


def test_a_log_that_is_opened_again_is_appended_to(tmp_path: Path) -> None:
    for number in range(2):
        log = AuditLog(tmp_path / "audit.jsonl", max_bytes=350)
        log(AuditEntry.RUN_STARTED, run=number)
        log.close()
    assert [line["run"] for line in lines(log.path)] == [0, 1]
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=350)
    log(AuditEntry.RUN_STARTED, run=2)
    log.close()
    assert log.path.with_name("audit.jsonl.1").exists()


def test_a_disk_error_is_told_and_it_is_tried_again(tmp_path: Path) -> None:
    log = AuditLog(Path("/dev/full"))
    log(AuditEntry.RUN_STARTED)
    assert log.problem == ""
    for _ in range(2):
        log.flush()
        assert log.problem == (
            "the audit log /dev/full cannot be written: No space left on device; it is tried again"
        )
        log(AuditEntry.RUN_FINISHED)
    log.close()


def test_a_directory_in_the_way_of_a_rotated_file_is_waited_for(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=10)
    (tmp_path / "audit.jsonl.1" / "in the way").mkdir(parents=True)
    log(AuditEntry.RUN_STARTED)
    assert "cannot be written: Is a directory" in log.problem
    log(AuditEntry.RUN_FINISHED)
    log.flush()
    assert lines(log.path) == [], "what stood before is not known"
    (tmp_path / "audit.jsonl.1").rename(tmp_path / "elsewhere")
    log.close()
    assert log.problem == ""
    found = verify(log.path)
    assert (found.problems, found.lines) == ([], 3)


def test_a_file_that_was_removed_is_made_again_and_one_whose_directory_was_once_that_is_there(
    tmp_path: Path,
) -> None:
    log = AuditLog(tmp_path / "deep" / "audit.jsonl")
    for number in range(2):
        log(AuditEntry.RUN_STARTED, run=number)
        log.flush()
        assert [line["run"] for line in lines(log.path)] == [number]
        os.unlink(log.path)
    log.path.parent.rmdir()
    log(AuditEntry.RUN_FINISHED)
    log.flush()
    assert "No such file" in log.problem
    log.path.parent.mkdir()
    log.close()
    assert [line["event"] for line in lines(log.path)] == ["RUN_FINISHED", "AUDIT_RESUMED"]


class Disk:
    """Takes so many more bytes, and says ENOSPC then. ``lockable``: whether files may be locked there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, lockable: bool) -> None:
        self.left = 10**9
        write = os.write

        def limited(file: int, data: bytes) -> int:
            if self.left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            count = write(file, bytes(data)[: self.left])
            self.left -= count
            return count

        monkeypatch.setattr(os, "write", limited)
        if not lockable:
            monkeypatch.setattr("ingestd.telemetry.audit_file.lock", lambda *args, **options: False)


@pytest.mark.parametrize("lockable", [True, False])
@pytest.mark.parametrize("room", [0, 1, 150, 400])
def test_after_a_full_disk_it_goes_on_and_its_chain_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, lockable: bool
) -> None:
    disk = Disk(monkeypatch, lockable=lockable)
    log = AuditLog(tmp_path / "audit.jsonl")
    log(AuditEntry.RUN_STARTED, run=0)
    log.flush()
    disk.left = room
    for number in range(1, 6):
        log(AuditEntry.BATCH_DELIVERED, run=number)
    for _ in range(2):
        log.flush()
        assert "No space left on device" in log.problem
    disk.left = 10**9
    log(AuditEntry.BATCH_DELIVERED, run=6)
    log.flush()
    assert log.problem == ""
    log(AuditEntry.RUN_FINISHED, run=7)
    log.close()
    found = verify(log.path)
    assert found.problems == []
    whole = [line for line in log.path.read_bytes().splitlines() if line.endswith(b"}")]
    told = [json.loads(line) for line in whole]
    assert [line["run"] for line in told if "run" in line] == list(range(8))
    (resumed,) = [line for line in told if line["event"] == "AUDIT_RESUMED"]
    assert (resumed["missing"], resumed["since"] <= resumed["time"]) == (0, True)
    assert len(found.torn) == (not lockable and room > 0)


def test_what_is_held_has_a_limit_and_what_is_beyond_it_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, lockable=True)
    disk.left = 0
    log = AuditLog(tmp_path / "audit.jsonl", max_held_bytes=1000)
    log(AuditEntry.RUN_STARTED)
    log.flush()
    for _ in range(100):
        log(AuditEntry.BATCH_DELIVERED)
    disk.left = 10**9
    log.close()
    told = lines(log.path)
    assert told[-1]["event"] == "AUDIT_RESUMED"
    assert told[-1]["missing"] == 102 - len(told) > 80
    assert verify(log.path).problems == []


def test_on_a_real_disk_that_is_full_too(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=1) as directory:
        log = AuditLog(directory / "audit.jsonl")
        log(AuditEntry.RUN_STARTED)
        log.flush()
        filler = fill(directory)
        for number in range(200):
            log(AuditEntry.BATCH_DELIVERED, run=number)
        log.flush()
        assert "No space left on device" in log.problem
        filler.unlink()
        log.close()
        assert verify(log.path).problems == []
        assert len(lines(log.path)) == 202


def test_a_pipe_is_written_to_and_never_rotated(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb") as pipe:
        log = AuditLog(tmp_path / "pipe", max_bytes=10)
        for number in range(2):
            log(AuditEntry.RUN_STARTED, run=number)
            log.flush()
        assert [json.loads(line)["run"] for line in pipe.read().splitlines()] == [0, 1]
        log.close()
    assert (log.problem, os.listdir(tmp_path)) == ("", ["pipe"])


def test_a_log_that_another_process_rotated_goes_on_in_the_new_file(tmp_path: Path) -> None:
    ours, theirs = (AuditLog(tmp_path / "audit.jsonl", max_bytes=size) for size in (10**6, 10))
    ours(AuditEntry.RUN_STARTED, run=0)
    ours.flush()
    theirs(AuditEntry.RUN_STARTED, run=1)
    ours(AuditEntry.RUN_FINISHED, run=2)
    ours.close()
    theirs.close()
    assert [line["run"] for line in lines(tmp_path / "audit.jsonl.1")] == [0, 1]
    assert [line["run"] for line in lines(tmp_path / "audit.jsonl")] == [2]


def test_whoever_holds_the_lock_for_long_is_not_waited_for(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    with log.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        log(AuditEntry.RUN_STARTED)
        log.close()
    assert (log.problem, len(lines(log.path))) == ("", 1)


def test_a_log_that_cannot_be_opened_is_the_users_to_put_right(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write the audit log"):
        AuditLog(tmp_path)
