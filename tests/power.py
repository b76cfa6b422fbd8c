"""A disk whose power can be cut: what was not synced is gone, as after a real cut.

ext4 on a loop device, shut down without a flush of its journal (``FS_IOC_SHUTDOWN``, ``NOLOGFLUSH``),
unmounted and mounted again. Needs root and loop devices.
"""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SHUTDOWN, _NOLOGFLUSH = 0x8004587D, (2).to_bytes(4, "little")
_MEGABYTES = 1500
_BUSY_S = 10.0


class Disk:
    """Mounted at ``where``, its image beside it."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self._image = where.with_suffix(".disk")

    def format(self) -> None:
        """Raises OSError, CalledProcessError."""
        self.where.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as file:
            file.truncate(_MEGABYTES << 20)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.where))

    def cut(self, *pids: int) -> None:
        """From now on nothing can be written. Who has files open there has to end before ``mend``.

        ``pids``: processes that stand still before, and have to be killed. While ext4 is being shut down an
        ``fsync`` that is under way can return success although nothing was written (seen with Linux 6.18, 8
        of 150 times with six writers): what it belongs to would be acknowledged, by a machine without power.
        """
        for pid in pids:
            _halt(pid)
        opened = os.open(self.where, os.O_RDONLY)
        try:
            fcntl.ioctl(opened, _SHUTDOWN, _NOLOGFLUSH)
        finally:
            os.close(opened)

    def mend(self) -> None:
        self._unmount()
        self._mount()

    def _unmount(self) -> None:
        until = time.monotonic() + _BUSY_S
        while True:
            try:
                _run("umount", str(self.where))
            except subprocess.CalledProcessError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return

    def remove(self) -> None:
        if os.path.ismount(self.where):
            self._unmount()
        self._image.unlink(missing_ok=True)


def _halt(pid: int) -> None:
    """None of its threads runs any more; those that are in a system call may come to its end, no further."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + _BUSY_S
    while not {_state(thread) for thread in Path(f"/proc/{pid}/task").iterdir()} <= {"T", "D"}:
        if time.monotonic() > until:
            raise TimeoutError(f"process {pid} does not stand still")
        time.sleep(0.0005)


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def disk(where: Path) -> Iterator[Disk]:
    found = Disk(where)
    try:
        found.format()
        yield found
    finally:
        found.remove()


def why_not(directory: Path) -> str:
    """Why there can be none here; "": there can, and a file that was not synced was lost."""
    try:
        with disk(directory / "power") as found:
            for name in ("synced", "not"):
                with (found.where / name).open("wb") as file:
                    file.write(bytes(10_000))
                    file.flush()
                    if name == "synced":
                        os.fsync(file.fileno())
            found.cut()
            found.mend()
            left = {one.name: one.stat().st_size for one in found.where.iterdir() if one.is_file()}
            return "" if left == {"synced": 10_000} else f"a cut left {left}"
    except (OSError, subprocess.CalledProcessError) as error:
        return str(getattr(error, "stderr", "") or error).strip()


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
