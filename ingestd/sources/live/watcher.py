"""Who tells that something has changed in directories: the system, where it can, or nobody.

With the library ``watchfiles`` (extra ``files``): inotify, FSEvents, kqueue. A network file system tells only
of what this machine writes, so that files there are looked at in time, and so are all of them now and then.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

_NETWORK = (
    "nfs",
    "cifs",
    "smb",
    "fuse",
    "9p",
    "gluster",
    "ceph",
    "lustre",
    "afs",
    "virtiofs",
    "gpfs",
    "beegfs",
)
_MOUNTS = "/proc/self/mounts"
_GROUP_MS, _STEP_MS, _WAIT_MS = 50, 10, 500


def network_of(path: str, mounts: str = _MOUNTS) -> str:
    """The type of the network file system that ``path`` is on; empty: it is on none, or that is not known."""
    best, kind = "", ""
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real = os.path.realpath(path)
    for line in lines:
        _, at, type_, *_ = [*line.split(" "), "", "", ""]
        at = at.replace("\\040", " ")
        if (real == at or real.startswith(at.rstrip("/") + "/")) and len(at) >= len(best):
            best, kind = at, type_
    return kind if kind.startswith(_NETWORK) else ""


class Watcher:
    """Sets ``changed`` in the loop when something happens in a directory. ``watched``: how it is known.

    A thread of its own waits for the library: it holds no thread of the pool that reads files.
    """

    def __init__(self, changed: asyncio.Event, loop: asyncio.AbstractEventLoop, *, only_polls: bool) -> None:
        self.watched = "polled"
        self._loop = loop
        self._changed = changed
        self._only_polls = only_polls
        self._directories: frozenset[str] = frozenset()
        self._notify: Any = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def is_notified(self) -> bool:
        return self._notify is not None

    def watch(self, directories: Collection[str]) -> bool:
        """Those, and no others. In a worker thread. Whether they are others than before: what has happened
        in them meanwhile nobody told."""
        there = frozenset(one for one in directories if os.path.isdir(one))
        if self._only_polls or there == self._directories:
            return False
        self.close()
        self._directories = there
        if on := next((kind for one in there if (kind := network_of(one))), ""):
            self.watched = f"polled: on {on}"
            return False
        self._start(sorted(there))
        return self.is_notified

    def _start(self, directories: list[str]) -> None:
        if not directories:
            return
        try:
            from watchfiles._rust_notify import RustNotify  # 1 MB, and only where something is watched

            self._notify = RustNotify(directories, False, False, 0, False, True)
        except ImportError:
            self.watched = "polled: the extra files is not installed"
            return
        except Exception as error:
            self.watched = f"polled: {error}"
            return
        self.watched = "told by the system"
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_wait, args=(self._notify, self._stop, self._loop, self._changed.set), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=5.0)
            self._thread = None
        notify, self._notify = self._notify, None
        if notify:
            notify.close()
        self._directories = frozenset()
        self.watched = "polled"


def _wait(
    notify: Any, stop: threading.Event, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]
) -> None:
    while not stop.is_set():
        try:
            found = notify.watch(_GROUP_MS, _STEP_MS, _WAIT_MS, stop)
        except Exception:
            return
        if found not in ("timeout", "stop") and not stop.is_set():
            try:
                loop.call_soon_threadsafe(changed)
            except RuntimeError:
                return  # the loop has ended
