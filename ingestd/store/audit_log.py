"""The audit file: one JSON line per lifecycle event, rotated by size."""

import json
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from ingestd.core.audit import Entry
from ingestd.core.errors import UserError

MAX_FIELD = 500
"""Characters of one field; longer ones are cut."""


_encode = msgspec.json.Encoder(enc_hook=str).encode
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode


class AuditLog:
    """Appends lines; past ``max_bytes`` the file becomes ``.1``, and so on up to ``.keep``.

    Lines are buffered and reach the file at every ``flush`` (about once a second) and at ``close``. ASCII
    only: control characters and line breaks in a field cannot forge a line. Raises UserError when the
    file cannot be opened; a failing write later is reported in ``trouble``, once, and ends the log.
    """

    def __init__(self, path: Path, *, max_bytes: int = 100_000_000, keep: int = 5) -> None:
        self.path = path
        self.trouble = ""
        self._max_bytes = max_bytes
        self._keep = keep
        self._file: BinaryIO | None = None
        self._second, self._written = -1.0, ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise UserError(f"cannot write the audit log {path}: {error.strerror}") from None

    def __call__(self, entry: Entry, /, **fields: str | int | float | bool | None) -> None:
        if self._file is None:
            return
        line: dict[str, object] = {"time": self._now(), "event": entry.value}
        for name, value in fields.items():
            line[name] = value[:MAX_FIELD] if type(value) is str else value
        data = _encode_line(line) + b"\n"
        try:
            self._file.write(data)
            self._size += len(data)
            if self._size >= self._max_bytes:
                self._rotate()
        except OSError as error:
            self._fail(error)

    def _now(self) -> str:
        """RFC 3339, to the millisecond. The second is written once for all lines of it."""
        seconds, fraction = divmod(time.time(), 1)
        if seconds != self._second:
            self._second = seconds
            self._written = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._written}.{int(fraction * 1000):03d}+00:00"

    def flush(self) -> None:
        try:
            if self._file:
                self._file.flush()
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        self.flush()
        if self._file:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=64 * 1024)
        self._size = os.fstat(descriptor).st_size

    def _rotate(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        for number in range(self._keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self.path.replace(self._numbered(1))
        self._open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _fail(self, error: OSError) -> None:
        self.trouble = f"the audit log {self.path} cannot be written any more: {error.strerror}"
        file, self._file = self._file, None
        if file:
            with suppress(OSError):
                file.close()


def _encode_line(line: dict[str, object]) -> bytes:
    """The quick encoder leaves what is not ASCII as it is, and refuses half a surrogate pair."""
    try:
        data = _encode(line)
    except UnicodeEncodeError:
        data = b"\xff"
    return data if data.isascii() else _encode_ascii(line).encode()
