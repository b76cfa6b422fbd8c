"""A state directory that has those of several processes in it, one for each part of the input.

How many there are, and by what events are split, stands in a file of its own. With another number an event
that one process has passed over would be of another that has passed it, too: nobody would send it.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ingestd.core.errors import UserError
from ingestd.store.connection import FILE_NAME, PARTS_NAME

_FORMAT = 1


class Parts(NamedTuple):
    """``split``: by what events are split, setting -> value, as text."""

    processes: int
    split: Mapping[str, str]
    format: int = _FORMAT


def directories_of(directory: Path, count: int) -> list[Path]:
    return [directory / f"part-{number}of{count}" for number in range(1, count + 1)]


def parts_in(directory: Path) -> Sequence[Path]:
    """The state directories of its parts; none where it has no parts. Raises UserError."""
    found = _read(directory)
    return directories_of(directory, found.processes) if found else ()


def refuse_parts(directory: Path) -> None:
    """For a process that would have the directory for itself. Raises UserError."""
    if found := _read(directory):
        raise UserError(
            f"{directory} has the state of a replay with --workers {found.processes}: go on with that, or"
            " name another --state-dir"
        )


def refuse_part(directory: Path) -> None:
    """For a process that would take all of its input: what a part has noted of its events means nothing for
    those of the whole. Raises UserError."""
    real = directory.resolve()
    if not os.path.exists(real.parent / PARTS_NAME):
        return
    if (found := _read(real.parent)) and real in directories_of(real.parent, found.processes):
        raise UserError(
            f"{directory} has the state of one of the {found.processes} processes of a replay: go on with"
            f" --workers {found.processes} --state-dir {real.parent}, or name another --state-dir"
        )


def begin(directory: Path, parts: Parts) -> Sequence[Path]:
    """The state directories, each of one process. For who has the lock. Raises UserError where an earlier
    replay split otherwise, or not at all."""
    refuse_part(directory)
    if (directory / FILE_NAME).exists():
        raise UserError(
            f"{directory} has the state of one process: go on without --workers, or name another --state-dir,"
            " for which all of the input is new"
        )
    found = _read(directory)
    if found is None:
        if any(directory.glob(f"part-*of*/{FILE_NAME}")):
            raise UserError(
                f"{directory / PARTS_NAME}, which says how the input was split, is gone, and there are parts:"
                " name another --state-dir, for which all of the input is new"
            )
        _write(directory, parts)
    elif found.processes != parts.processes:
        raise UserError(
            f"{directory} was begun with --workers {found.processes}: go on with that number, or name another"
            " --state-dir, for which all of the input is new"
        )
    elif others := [name for name, value in parts.split.items() if found.split.get(name, value) != value]:
        before = ", ".join(f"{name} = {found.split[name]}" for name in others)
        raise UserError(
            f"{directory} was begun with {before}, and events are split by that: go on with it, or name"
            " another --state-dir, for which all of the input is new"
        )
    elif not found.split.keys() >= parts.split.keys():  # the first table that it gets
        _write(directory, parts._replace(split={**found.split, **parts.split}))
    return directories_of(directory, parts.processes)


def _read(directory: Path) -> Parts | None:
    path = directory / PARTS_NAME
    try:
        found = Parts(**json.loads(path.read_bytes()))
        ok = found.format == _FORMAT and found.processes > 1 and isinstance(found.split, dict)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError):
        ok = False
    if not ok:
        raise UserError(
            f"{path}, which says how the input was split, is damaged or of another version: name another"
            " --state-dir, for which all of the input is new"
        )
    return found


def _write(directory: Path, parts: Parts) -> None:
    """Whole or not at all, and there to stay."""
    temporary = directory / f".{PARTS_NAME}.{os.getpid()}"
    try:
        with temporary.open("wb") as file:
            file.write(json.dumps(parts._asdict(), indent=2).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(directory / PARTS_NAME)
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UserError(f"cannot use the state directory {directory}: {error.strerror}") from None
