"""Where the state is that a command is about: as named, as configured, that of the sandbox, or the only one
there is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ingestd.core.errors import UserError
from ingestd.store.connection import FILE_NAME, PARTS_NAME

SANDBOX = "sandbox"
_UNFINISHED = ".sandbox-"


def place(state_dir: str | None, config_file: str | None, *, sandbox: bool) -> str | None:
    """The directory that three options name together; None: they name none. Raises UserError."""
    if sandbox and (state_dir or config_file):
        raise UserError("Use either --sandbox, or --state-dir or --config.")
    if sandbox:
        return str(sandbox_directory())
    if state_dir or not config_file:
        return state_dir
    from ingestd.config import find_state_directory, load  # all settings: as much to import as all else

    settings = load(config_file, {})
    if settings.spool.kind == "nats":
        raise UserError(
            "with spool.kind = 'nats' edges and workers have no state directory, and this command is"
            " not there: see `ingestd spool stat`, `ingestd workers` and `ingestd dlq`"
        )
    return str(find_state_directory(settings))


def directory_of(state_dir: str | None) -> Path:
    """The state directory: as given, or the only one there is. Raises UserError."""
    if not state_dir:
        from ingestd.config import load

        state_dir = load(None, {}).state.dir
    directory = Path(state_dir) if state_dir else only_directory(FILE_NAME)
    if not os.path.exists(directory / FILE_NAME):
        ask_for_part(directory)
        raise UserError(
            f"there is no {FILE_NAME} in {directory}: name the state directory of the replay, or of the"
            " service, with --state-dir, or give its --config"
        )
    return directory


def ask_for_part(directory: Path) -> None:
    """Where the state is that of several processes of a replay, it is one of these that is asked for. Raises
    UserError."""
    from ingestd.store.parts import parts_in

    if found := parts_in(directory):
        names = ", ".join(map(str, found))
        raise UserError(
            f"{directory} has the state of {len(found)} processes of a replay: choose one with"
            f" --state-dir ({names})"
        )


def only_directory(file: str) -> Path:
    """The one that has such a file, of those that nobody has named; that of the sandbox only if there is no
    other. Raises UserError where there are several."""
    base = _base()
    with_it = [*base.glob(f"*/{file}"), *base.glob(f"*/{PARTS_NAME}")]
    found = sorted({path.parent for path in with_it if not path.parent.name.startswith(".")})
    others = [path for path in found if path.name != SANDBOX]
    if len(others) > 1:
        names = ", ".join(map(str, others))
        raise UserError(f"there are several state directories: choose one with --state-dir ({names})")
    return (others or found or [base])[0]


def sandbox_directory() -> Path:
    """What the last ``replay --sandbox`` left that had dead letters."""
    return _base() / SANDBOX


@contextmanager
def sandbox_state() -> Iterator[Path]:
    """A directory for one replay into a sandbox. What it leaves replaces what an earlier one left, so that
    its dead letters can be looked at; where nothing can be kept it is gone at the end."""
    import shutil
    import tempfile

    try:
        _base().mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=_base()))
    except OSError:
        with tempfile.TemporaryDirectory(prefix="ingestd-sandbox-") as temporary:
            yield Path(temporary)
        return
    try:
        yield directory
        if (directory / FILE_NAME).exists():
            kept = sandbox_directory()
            shutil.rmtree(kept, ignore_errors=True)
            with suppress(OSError):  # another one was quicker
                os.rename(directory, kept)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _base() -> Path:
    from ingestd.config.api_login import state_base

    return state_base()
