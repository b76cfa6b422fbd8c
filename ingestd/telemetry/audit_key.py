"""The key of the audit chain: only who has it can recompute the chain."""

import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from ingestd.core import redaction
from ingestd.core.errors import UserError

KEY_CHARS = 64
"""Hexadecimal: 32 bytes, as from ``openssl rand -hex 32``."""
_KEY = re.compile(rb"(?P<key>[0-9a-fA-F]{%d})(\nafter (?P<after>[0-9a-f]{32}))?" % KEY_CHARS)


class AuditKey(NamedTuple):
    """``id``: eight hexadecimal digits that stand in every line made with it, and tell nothing of it.
    ``after``: the hash of the log's last line when the key was made: lines without a key that end otherwise
    are forged. None: not known, since the operator made the key."""

    id: bytes
    secret: bytes
    after: bytes | None = None


def make_key(secret: bytes, after: bytes | None = None) -> AuditKey:
    name = blake2b(key=secret, digest_size=4, person=b"ingestd key id").hexdigest()
    return AuditKey(name.encode(), secret, after)


def read_key(path: Path) -> AuditKey:
    """Raises UserError."""
    try:
        with path.open("rb") as file:
            text = file.read(1024).strip()
    except OSError as error:
        raise UserError(f"cannot read the key of the audit log, {path}: {error.strerror}") from None
    match = _KEY.fullmatch(text)
    if match is None:
        raise UserError(f"{path} is not a key of the audit log: expected {KEY_CHARS} hexadecimal digits")
    redaction.hide(match["key"].decode())
    return make_key(bytes.fromhex(match["key"].decode()), match["after"])


def open_key(path: Path, *, last_hash: Callable[[], bytes]) -> AuditKey:
    """Read the key; make one, for the owner alone, where there is none. ``last_hash``: of the log that it is
    for. Raises UserError."""
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _create(path, last_hash())
        except OSError as error:
            raise UserError(f"cannot make the key of the audit log, {path}: {error.strerror}") from None
    return read_key(path)


def _create(path: Path, after: bytes) -> None:
    """Whole or not at all; of two processes that make one at once, the first wins."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{secrets.token_hex(KEY_CHARS // 2)}\nafter {after.decode()}\n".encode())
        os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.close(descriptor)
        os.unlink(temporary)
