"""The chain through the audit file: every line vouches, with a key, for all lines before it; and that key.

Written by ``audit_file.py``, checked by ``audit_verification.py``. No I/O but for the key's file.
"""

import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from ingestd.core import redaction
from ingestd.core.errors import UserError
from ingestd.core.regex import regex

KEY_CHARS = 64
"""Hexadecimal: 32 bytes, as from ``openssl rand -hex 32``."""
_KEY = regex(rb"(?P<key>[0-9a-fA-F]{%d})(\nafter (?P<after>[0-9a-f]{32}))?" % KEY_CHARS)


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
    """Whole or not at all, and there to stay; of two processes that make one at once, the first wins."""
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
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Before a line is made with the key: those of a key that is gone after a power cut look forged."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


TAIL_BYTES = 64 * 1024
"""Of a line that has no chain, so much of its end is hashed: the line may be anybody's, of any length."""
CHAIN_BYTES = 80
"""What a chain adds to a line, about: the link that a file or a change of writers begins with adds 33."""
NOTHING = b"0" * 32
"""The hash of the line before the first one."""

_NAME = b',"chain":"'
_CHAIN = regex(
    rb"(?P<place>(?:(?P<key>[0-9a-f]{8})\.)?(?P<writer>[0-9a-f]{12}):(?P<number>\d{1,15}):)(?P<hash>[0-9a-f]{32})"
    rb'(?P<link>:(?P<after>[0-9a-f]{32}))?"\}'
)
_MAX_CHAIN_BYTES = len(_NAME) + 9 + 12 + 1 + 15 + 1 + 32 + 33 + 2


class Chained(NamedTuple):
    """A line's chain, ``"<key>.<writer>:<number>:<hash>"``, or with ``:<after>`` behind it.

    ``key``: the id of the key that it was made with; b"": a line from before there were keys, whose hash
    anyone can make. ``writer``: random for each process that opened the log; ``number``: of its lines,
    from 0. ``after``: the hash of the line before, where that is another writer's or in another file; b"": it
    is the writer's own. ``place``, ``link``: as written. ``body``: the line without its chain.
    """

    writer: bytes
    number: int
    hash: bytes
    after: bytes
    place: bytes
    link: bytes
    body: bytes
    key: bytes = b""

    @property
    def text(self) -> str:
        """What names this line and all before it, for a person to note down."""
        return (self.place + self.hash).decode()

    def follows(self, before: bytes, secret: bytes = b"") -> bool:
        """Whether the line is as it was written, with the key ``secret``, behind the hash ``before``."""
        return self.hash == _hash(before, self.place, self.link, self.body, secret)


def parse(line: bytes) -> Chained | None:
    """The chain of a line (without its line break); None if it has none."""
    start = line.rfind(_NAME, -_MAX_CHAIN_BYTES)
    match = _CHAIN.fullmatch(line, start + len(_NAME)) if start >= 0 else None
    if match is None:
        return None
    key, writer, number, digest, after, place, link = match.group(
        "key", "writer", "number", "hash", "after", "place", "link"
    )
    body = line[:start] + b"}"
    return Chained(writer, int(number), digest, after or b"", place, link or b"", body, key or b"")


def hash_of(line: bytes) -> bytes:
    """What the next line names as the one before it; of any line, also a torn one, or one without a chain."""
    chained = parse(line)
    return chained.hash if chained else blake2b(line[-TAIL_BYTES:], digest_size=16).hexdigest().encode()


class ChainEnd:
    """Where one writer goes on."""

    def __init__(self, key: AuditKey | None = None) -> None:
        self._secret = key.secret if key else b""
        self._writer = (key.id + b"." if key else b"") + os.urandom(6).hex().encode()
        self._number = 0
        self._hash = NOTHING

    def extend(self, bodies: Iterable[bytes], *, after: bytes | None) -> bytes:
        """Lines of ``bodies`` (JSON objects that are not empty). ``after``: the hash of the line that they
        will stand behind; None: it is the last one that came from here."""
        lines = []
        writer, number, last = self._writer, self._number, self._hash
        begin = blake2b(digest_size=16, key=self._secret).copy  # of many lines a second; see ``_hash``
        for body in bodies:
            place, link, state = b"%b:%d:" % (writer, number), b"", begin()
            if after is not None:
                last, link, after = after, b":" + after, None
            state.update(b"%b%b%b%b" % (last, place, link, body))
            last = state.hexdigest().encode()
            number += 1
            lines.append(b'%b,"chain":"%b%b%b"}\n' % (body[:-1], place, last, link))
        self._number, self._hash = number, last
        return b"".join(lines)


def _hash(before: bytes, place: bytes, link: bytes, body: bytes, secret: bytes) -> bytes:
    """BLAKE2b-128 (RFC 7693), keyed if there is a key, in hexadecimal."""
    return blake2b(before + place + link + body, digest_size=16, key=secret).hexdigest().encode()
