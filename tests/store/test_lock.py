import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ingestd.core.errors import UserError
from ingestd.store.lock import DirectoryLock

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
