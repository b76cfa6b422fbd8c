"""How a request shows whom it is from: what every ``Auth`` does, and the simple ones. For ``sender.py``.

The others: ``oauth.py`` (tokens of a login host), ``webhook_signature.py``, ``aws.py``. All: ``login.py``.
"""

import base64
import re
from collections.abc import Mapping
from typing import Protocol

from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.transport.credential import Credential, SecretMask, make_credential
from ingestd.transport.watched_file import Watch

_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")
_VALUE = re.compile(r"[\x20-\x7e]{1,16384}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_NOT_OURS = {"host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "te"}


class Auth(Protocol):
    """Adds to each attempt what shows whom it is from. ``refusal``: what it means, for people, that the API
    does not accept it, although it was renewed where that can be done."""

    refusal: str

    async def headers(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[dict[str, str], int]:
        """(headers to add to a POST with these, generation of the credential). Raises Unreachable."""
        ...

    def drop(self, generation: int) -> None:
        """The credential of that generation was refused; a newer one stays."""
        ...

    def mask(self, text: bytes) -> bytes:
        """An answer without our secrets."""
        ...

    async def aclose(self) -> None: ...


class NoAuth:
    """For APIs that want none."""

    refusal = "no credentials are sent, and the API wants some: set auth, or leave no_auth out"

    async def headers(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[dict[str, str], int]:
        return {}, 0

    def drop(self, generation: int) -> None:
        """Nothing to drop."""

    def mask(self, text: bytes) -> bytes:
        return text

    async def aclose(self) -> None:
        """Nothing to close."""


class SecretHeader:
    """One header whose value is a secret; see ``bearer``, ``basic`` and ``header``."""

    refusal = "the API does not accept the credentials of auth"

    def __init__(self, name: str, value: Credential[str], mask: SecretMask) -> None:
        self._name = name
        self._value = value
        self.mask = mask

    async def headers(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[dict[str, str], int]:
        value = self._value.get()
        return {self._name: value}, self._value.generation

    def drop(self, generation: int) -> None:
        """Look into the file again, if it is one; the next attempt has what stands there then."""
        self._value.drop(generation)

    async def aclose(self) -> None:
        """Nothing to close."""


def bearer(token: str, token_file: str, *, clock: Clock, watch: Watch | None = None) -> SecretHeader:
    """``Authorization: Bearer …`` (RFC 6750 2.1). Raises UserError."""
    mask = SecretMask()

    def parse(text: str) -> str:
        if not _TOKEN.fullmatch(text):
            raise ValueError("a token is one word of ASCII letters, digits and signs")
        mask.add(text)
        return f"Bearer {text}"

    return SecretHeader(
        "Authorization",
        make_credential(token, token_file, parse, what="token", clock=clock, watch=watch),
        mask,
    )


def basic(
    username: str, password: str, password_file: str, *, clock: Clock, watch: Watch | None = None
) -> SecretHeader:
    """``Authorization: Basic …`` in UTF-8 (RFC 7617). Raises UserError."""
    if not username or ":" in username or not username.isprintable():
        raise UserError("username: one without colons is needed")
    mask = SecretMask()

    def parse(text: str) -> str:
        if not text or not text.isprintable():
            raise ValueError("a password is one line without control characters")
        pair = base64.b64encode(f"{username}:{text}".encode()).decode()
        mask.add(pair, text)
        return f"Basic {pair}"

    value = make_credential(password, password_file, parse, what="password", clock=clock, watch=watch)
    return SecretHeader("Authorization", value, mask)


def header(
    name: str, token: str, token_file: str, *, clock: Clock, watch: Watch | None = None
) -> SecretHeader:
    """A header of any name, as ``X-Api-Key``, whose value is the secret. Raises UserError."""
    if not _NAME.fullmatch(name) or name.lower() in _NOT_OURS:
        raise UserError(f"header: {name[:100]!r} is no name of a header for credentials")
    mask = SecretMask()

    def parse(text: str) -> str:
        if not _VALUE.fullmatch(text):
            raise ValueError("the value of a header is one line of ASCII")
        mask.add(text, text.rpartition(" ")[2])  # of "Token abc" the second word is the secret
        return text

    return SecretHeader(
        name, make_credential(token, token_file, parse, what="token", clock=clock, watch=watch), mask
    )
