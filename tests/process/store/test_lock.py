import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ingestd.core.errors import UserError
from ingestd.store.lock import DirectoryInUse, DirectoryLock, holder_of

HOLDER = """
import sys
from pathlib import Path
from ingestd.store.lock import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_hears_who_has_the_directory_and_kill_9_frees_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        expected = f"{tmp_path} is in use by process {holder.pid}: wait for it"
        with pytest.raises(UserError, match=re.escape(expected)):
            DirectoryLock(tmp_path)
        holder.send_signal(signal.SIGKILL)
    DirectoryLock(tmp_path).release()


def test_a_released_lock_is_free(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "on the way"
    DirectoryLock(directory).release()
    again = DirectoryLock(directory)
    with pytest.raises(UserError, match="in use by process"):
        DirectoryLock(directory)
    again.release()
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_made_is_the_users_to_put_right(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot use the state directory"):
        DirectoryLock(tmp_path / "file" / "state")


def test_a_lock_file_that_was_removed_lets_nobody_in_and_is_made_again(tmp_path: Path) -> None:
    held = DirectoryLock(tmp_path)
    assert held.look() == ""
    (tmp_path / "lock").unlink()
    assert holder_of(tmp_path) == "unknown"
    with pytest.raises(DirectoryInUse):
        DirectoryLock(tmp_path)
    assert "lock was removed or replaced while it was in use: it is made again" in held.look()
    assert held.look() == ""
    assert holder_of(tmp_path) == str(os.getpid())
    with pytest.raises(DirectoryInUse, match=f"in use by process {os.getpid()}"):
        DirectoryLock(tmp_path)
    held.release()
    assert holder_of(tmp_path) == ""
    DirectoryLock(tmp_path).release()


def test_a_directory_that_was_moved_is_not_this_locks_to_tell(tmp_path: Path) -> None:
    held = DirectoryLock(tmp_path / "state")
    (tmp_path / "state").rename(tmp_path / "moved")
    other = DirectoryLock(tmp_path / "state")
    assert held.look() == ""
    other.release()
    held.release()


def test_who_only_looks_at_the_directory_for_a_moment_stops_no_start(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1234")  # of a process that was killed
    looking = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.2, os.close, [looking]).start()
    DirectoryLock(tmp_path).release()


def test_where_directories_cannot_be_locked_the_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock

    def flock(descriptor: int, kind: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(9, "Bad file descriptor")
        real(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", flock)
    held = DirectoryLock(tmp_path)
    with pytest.raises(DirectoryInUse):
        DirectoryLock(tmp_path)
    held.release()
