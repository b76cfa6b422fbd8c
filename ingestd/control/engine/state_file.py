"""Keeps ``ControlState`` in the state directory: control.json and control.key, private, replaced as a whole.

The commands open it; an apply holds its lock from reading to the last write.
"""

import fcntl
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from ingestd.control.engine.state import ControlState, StateContent
from ingestd.core.address import show_url
from ingestd.core.errors import UserError

FILE, KEY, LOCK = "control.json", "control.key", "control.lock"
MAX_FILE_BYTES = 64 * 1024**2
FORMAT = 1
_KEY_BYTES = 32


@contextmanager
def open_state(directory: Path, base: str, *, change: bool) -> Iterator[ControlState]:
    """The state of the API at ``base``. ``change``: for an apply; one process at a time. Without it nothing
    is written but the key. Raises UserError for what cannot be read, and for a second apply."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(directory) if change else _unlocked():
            contents = _read(directory / FILE)

            def write(content: StateContent) -> None:
                contents[base] = content
                _write(directory / FILE, contents)

            yield ControlState(
                base,
                key=_key(directory / KEY),
                content=contents.get(base),
                write=write if change else _refuse,
            )
    except OSError as error:
        raise UserError(f"cannot use the state directory {directory}: {error.strerror}") from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another apply works with {directory}: wait for it") from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _unlocked() -> Iterator[None]:
    yield


def _refuse(content: StateContent) -> None:
    raise AssertionError("a state that was opened to read is not written")


def _read(path: Path) -> dict[str, StateContent]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    try:
        whole = msgspec.json.decode(data, type=dict[str, Any])
        if whole.get("format") != FORMAT:
            raise UserError(
                f"{path} has format {whole.get('format')!r}, expected {FORMAT}: use the ingestd that wrote it"
            )
        found = msgspec.convert(whole.get("apis"), dict[str, StateContent])
        return {show_url(api): content for api, content in found.items()}
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({str(error)[:200]}): put a copy back, or move it away; "
            "what is in the file of resources is then adopted again by its name"
        ) from None


def _write(path: Path, contents: dict[str, StateContent]) -> None:
    """A power cut leaves the old file or the new one."""
    data = msgspec.json.format(msgspec.json.encode({"format": FORMAT, "apis": contents}), indent=1)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _key(path: Path) -> bytes:
    """Made at first use; of two that make it at once, both take the one that was there first."""
    with suppress(FileExistsError):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            if not path.exists():
                os.link(name, path)
        finally:
            Path(name).unlink()
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise UserError(f"{path} is damaged: move it away; every secret is then sent once more")
    return key
