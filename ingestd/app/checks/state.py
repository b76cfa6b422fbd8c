"""The state directory: can it be written, is it free, has it room, does its disk keep what it says."""

import os
import re
import shutil
import statistics
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.config import SpoolConfig
from ingestd.core.clock import Clock
from ingestd.store.connection import FILE_NAME, VERSION, StoreFailed
from ingestd.store.origin import was_restored
from ingestd.store.spool_inspection import waiting_by_sink
from ingestd.store.spool_rows import words_of_left_behind
from ingestd.store.state_format import look_at

SLOW_FSYNC_S = 0.020
_PROBES = 10
# SQLite's locks and fsync cannot be relied upon there.
_NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|ncpfs|afs|ceph|lustre|gpfs|glusterfs|beegfs|9p|davfs|fuse\..+)"
)
_FLEETING = {"tmpfs": "memory", "ramfs": "memory", "overlay": "the container's own layer"}


def check_state(
    directory: Path, spool: SpoolConfig, sinks: Collection[str], clock: Clock
) -> Iterator[Finding]:
    """Writes a probe there and takes it away again. Makes no directory, and leaves no file behind. ``sinks``:
    names of those that are configured."""
    existing = _nearest_existing(directory)
    if not existing.is_dir():
        yield fail("state directory", f"{existing} is in the way of {directory}: it is not a directory")
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".ingestd-check-", dir=existing) as probe:
            fsync_s = _measure_fsync(Path(probe) / "fsync", clock)
    except OSError as error:
        yield fail(
            "state directory", f"cannot write in {existing}: {error.strerror}; set state.dir, or its rights"
        )
        return
    foreign = [file.name for file in _files_in(directory) if not os.access(file, os.W_OK)]
    if foreign:
        yield fail("state directory", f"{directory / foreign[0]} cannot be written by this user: chown it")
        return
    made = "can be written" if existing == directory else "can be made"
    yield ok("state directory", f"{directory} {made}")
    yield from _check_file(directory / FILE_NAME, sinks)
    yield _check_room(directory, existing, spool)
    yield from check_file_system(existing, _read_mounts())
    yield check_fsync(fsync_s)


_RESTORED = (
    "the state directory was restored, or copied, since it was used last: a start says what is sent again"
)


def _check_file(path: Path, sinks: Collection[str]) -> Iterator[Finding]:
    """What a start would refuse."""
    if not path.exists():
        return
    try:
        version = look_at(path)
    except StoreFailed as error:
        yield fail("state file", str(error))
    else:
        older = f"; a start brings it to {VERSION}" if version < VERSION else ""
        yield ok("state file", f"format {version}{older}")
        if was_restored(path.parent):
            yield warn("state file", _RESTORED)
        waiting = waiting_by_sink(path) if version == VERSION else {}
        for sink in waiting.keys() - set(sinks):
            yield fail("spool", words_of_left_behind(sink, waiting[sink], path.parent))


def check_file_system(path: Path, mounts: str) -> Iterator[Finding]:
    """Local and lasting? ``mounts``: the text of ``/proc/mounts``; nothing is found where it is unknown."""
    kind = file_system_of(path, mounts)
    if _NETWORK.fullmatch(kind):
        yield warn("file system", f"{path} is on {kind}, over a network: SQLite wants a local disk")
    elif kind in _FLEETING:
        yield warn(
            "file system", f"{path} is on {kind}, {_FLEETING[kind]}: a restart may lose it; use a volume"
        )
    elif kind:
        yield ok("file system", kind)


def check_fsync(median_s: float) -> Finding:
    summary = f"{median_s * 1000:.1f} ms (median of {_PROBES})"
    if median_s > SLOW_FSYNC_S:
        return warn("fsync", f"{summary}: every answer to a producer waits for one; use a faster disk")
    return ok("fsync", summary)


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds ``path``, from the text of ``/proc/mounts``; empty: unknown."""
    real, best, found = os.path.realpath(path), "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[1])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two at one point the later one hides the other
            best, found = point, fields[2]
    return found


def _nearest_existing(directory: Path) -> Path:
    path = Path(os.path.abspath(directory))
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return directory if path == Path(os.path.abspath(directory)) else path


def _measure_fsync(file: Path, clock: Clock) -> float:
    """Seconds for 4 KiB to be on disk, as each group commit wants it."""
    took = []
    with file.open("wb", buffering=0) as opened:
        for _ in range(_PROBES):
            opened.write(b"\0" * 4096)
            start = clock.monotonic()
            os.fsync(opened.fileno())
            took.append(clock.monotonic() - start)
    return statistics.median(took)


def _check_room(directory: Path, existing: Path, spool: SpoolConfig) -> Finding:
    free = shutil.disk_usage(existing).free
    own = sum(file.stat().st_size for file in _files_in(directory))
    summary = f"{_gigabytes(free)} free"
    if free < spool.ballast:
        return fail("disk", f"{summary}: not even the spool's ballast fits; free some space")
    if free + own < spool.max_bytes + spool.ballast:
        need = _gigabytes(spool.max_bytes + spool.ballast)
        return warn(
            "disk", f"{summary}, and the spool may grow to {need}: free some space, or lower spool.max_bytes"
        )
    return ok("disk", summary)


def _files_in(directory: Path) -> list[Path]:
    return [file for file in directory.iterdir() if file.is_file()] if directory.is_dir() else []


def _read_mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not Linux


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 10**9:.1f} GB"
