"""The audit file under several processes at once, after kill -9, and with garbage in it."""

import itertools
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.core.errors import UserError
from ingestd.telemetry.audit_rotation import MAX_LINE_BYTES
from ingestd.telemetry.audit_verification import MAX_PROBLEMS, verify
from tests.effort import examples
from tests.unit.telemetry.test_audit_chain import whats, whole, write

WRITER = """
import sys
from pathlib import Path
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
log = AuditLog(Path(sys.argv[1]), max_bytes=int(sys.argv[2]), keep=1000)
for number in range(int(sys.argv[3])):
    log(AuditEntry.BATCH_DELIVERED, events=number, error="x" * 400)
    if number % 7 == 0:
        log.flush()
        print(number, flush=True)
log.close()
assert not log.problem, log.problem
"""


def start(path: Path, *, max_bytes: int, count: int) -> "subprocess.Popen[bytes]":
    words = (sys.executable, "-c", WRITER, str(path), str(max_bytes), str(count))
    return subprocess.Popen(words, stdout=subprocess.PIPE)


def test_processes_that_write_and_rotate_one_log_at_once_keep_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    running = [start(path, max_bytes=60_000, count=500) for _ in range(3)]
    while any(process.poll() is None for process in running):
        write(path, 2)
        assert whole(verify(path)), "beside those who write"
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
    for process in running:
        process.communicate()
        assert process.returncode == 0
    found = verify(path)
    assert found.problems == []
    assert found.chained == found.lines >= 1500
    assert len(found.files) > 5
    assert not found.older_gone


def test_a_log_whose_writers_are_killed_in_the_middle_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    written = 0
    for seen in range(1, 5):
        with start(path, max_bytes=20_000, count=10**9) as process:
            assert process.stdout is not None
            for line in itertools.islice(process.stdout, seen * 5):
                shown = int(line)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            written += shown + 1
    found = verify(path)
    assert whole(found)
    assert (found.writers, found.lines >= written, len(found.torn) <= 4) == (4, True, True)


def test_a_log_whose_writer_was_killed_between_its_file_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 3)
    path.replace(tmp_path / "audit.jsonl.1")
    found = verify(path)
    assert (whole(found), found.lines) == (True, 3)
    write(path, 2)
    found = verify(path)
    assert (whole(found), found.lines) == (True, 5)


# --- hostile files ---


@settings(max_examples=examples(60))
@given(st.binary(max_size=3000))
def test_no_garbage_stops_the_check_or_the_log(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes
) -> None:
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    write(path, 2)
    with path.open("ab") as file:
        file.write(garbage)
    before = verify(path)
    write(path, 2)
    assert verify(path).chained >= 4
    assert verify(path).lines >= before.lines + 2


def test_a_huge_line_costs_little_memory_and_is_linked_to_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 1)
    with path.open("ab") as file:
        for _ in range(40):
            file.write(b"x" * MAX_LINE_BYTES)
        file.write(b"\n")
    tracemalloc.start()
    try:
        write(path, 1)
        found = verify(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE_BYTES
    finally:
        tracemalloc.stop()
    assert whats(found) == [(2, "has no chain: put in, or its chain was taken away")]


def test_no_more_problems_are_kept_than_a_person_reads(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 1)
    with path.open("ab") as file:
        file.write(b"{}\n" * 5000)
    found = verify(path)
    assert (found.problem_count, len(found.problems)) == (5000, MAX_PROBLEMS)


def test_a_log_that_is_not_there_is_the_users_to_put_right(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no audit log"):
        verify(tmp_path / "audit.jsonl")
    with pytest.raises(UserError, match="cannot read the audit log"):
        verify(tmp_path)
