"""A state file that SQLite cannot read is made again of what can be read, when a process that has the
directory starts.

The damaged one is kept beside it. Its name is a second link to it until the new one has its place: so a start
after a crash in between knows that it has to begin again, and with which files."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ingestd.store import state_map
from ingestd.store.connection import (
    CHECK_NAME,
    FILE_NAME,
    KEPT_NAME,
    MARK_NAME,
    StoreFailed,
    is_full,
    unfinished,
    unpack_mark,
)
from ingestd.store.rescue import Mended, sync_path
from ingestd.store.salvage import Beside, Salvaged, salvage


def mend(path: Path, how: str, report: Callable[[str], None], *, wall: Callable[[], float]) -> Mended:
    """Make it again. No connection may be open, and this process must have the directory. Raises StoreFailed;
    then all is as it was."""
    try:
        kept, source, log = _sources(path)
        new = path.with_name(f".{FILE_NAME}.new")
        try:
            report_damage = partial(
                report, f"{path} is damaged ({how}): what can be read of it is copied into a new one"
            )
            salvaged = _salvage(path, (source, log), new, report_damage, wall())
            sync_path(new)
            _exchange(path, kept, log, new)
        finally:
            new.unlink(missing_ok=True)
    except StoreFailed as error:
        raise StoreFailed(
            f"{path} is damaged ({how}), and {error}: move it away, or restore it, and start again"
        ) from None
    except Exception as error:
        if not (isinstance(error, OSError) or is_full(error)):  # damage of a kind that nobody thought of
            raise StoreFailed(
                f"{path} is damaged ({how}), and cannot be copied ({error!r}): move it away, or restore it,"
                " and start again"
            ) from None
        reason = getattr(error, "strerror", None) or error
        needed = -(-path.stat().st_size // 1024**2)
        raise StoreFailed(
            f"{path} is damaged ({how}), and what can be read of it cannot be copied ({reason}): make room"
            f" for {needed} MiB under {path.parent}, and start again; nothing has been changed"
        ) from None
    path.with_name(CHECK_NAME).unlink(missing_ok=True)
    words = "; ".join(salvaged.words())
    return Mended(kept, salvaged.outcome.lost_events, salvaged.lost_letters, salvaged.outcome.aside, words)


def _sources(path: Path) -> tuple[Path, Path, Path]:
    """(where the damaged file is to be, what is to be read, its log)."""
    kept = unfinished(path)
    if kept is None:
        return next(_free_names(path)), path, _log_of(path)
    if _log_of(kept).exists():
        return kept, kept, _log_of(kept)
    return kept, path, _log_of(path)


def _salvage(
    path: Path, damaged: tuple[Path, Path], new: Path, report: Callable[[], None], now: float
) -> Salvaged:
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        commits, high_water = unpack_mark(path.with_name(MARK_NAME).read_bytes())
    except OSError:
        commits, high_water = 0, 0
    beside = Beside(state_map.read(path.parent), commits, high_water)
    return salvage(*damaged, new, beside, report=report, now=now)


def _exchange(path: Path, kept: Path, log: Path, new: Path) -> None:
    if not kept.exists():
        os.link(path, kept)
    if log.exists() and log != _log_of(kept):
        log.replace(_log_of(kept))
    for side in ("-wal", "-shm"):
        path.with_name(path.name + side).unlink(missing_ok=True)
    sync_path(path.parent)
    new.replace(path)
    sync_path(path.parent)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _free_names(path: Path) -> Iterator[Path]:
    number = 1
    while True:
        name = path.with_name(KEPT_NAME if number == 1 else f"{KEPT_NAME}-{number}")
        if not name.exists() and not _log_of(name).exists():
            yield name
        number += 1
