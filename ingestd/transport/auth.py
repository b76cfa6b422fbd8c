"""How a request shows whom it is from: the simple kinds of ``Auth`` (``client.py``), and their secrets.

A secret stays as given, or stands in a file and is read again when that changes.

The others: ``oauth.py`` (tokens of a login host), ``webhook_signature.py``, ``aws.py``. All:
``wiring/http_clients.py``.
"""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ingestd.core.answer import Octets
from ingestd.core.clock import Clock
from ingestd.core.errors import Unreachable, UserError
from ingestd.core.regex import regex
from ingestd.transport.client import Ready, SecretMask
from ingestd.transport.watched_file import Watch, WatchedFiles

_TOKEN = regex(r"[\x21-\x7e]{1,16384}")
_VALUE = regex(r"[\x20-\x7e]{1,16384}")
_NAME = regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_NOT_OURS = {"host", "content-length", "content-type", "transfer-encoding", "connection", "upgrade", "te"}
MAX_FILE_BYTES = 64 * 1024

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Parse = Callable[[str], T]
"""What a secret's text becomes. Raises ValueError for one that does not serve, without quoting it."""


class LoginRefused(Unreachable):
    """The login host does not know these credentials, or does not let them in."""


class Credential(Protocol[T_co]):
    """``FixedCredential`` or ``SecretFile``. ``generation`` names a secret without telling it."""

    @property
    def generation(self) -> int: ...

    def get(self) -> T_co:
        """The secret in force. A file that changed is read again."""
        ...

    def drop(self, generation: int) -> None:
        """That generation was refused: look for a newer one."""
        ...


class FixedCredential(Generic[T]):
    """A secret of the configuration; it does not change. ``what``: its name there. Raises UserError."""

    generation = 0

    def __init__(self, text: str, parse: Parse[T], *, what: str) -> None:
        try:
            self._value = parse(text)
        except ValueError as error:
            raise UserError(f"{what}: {error}") from None

    def get(self) -> T:
        return self._value

    def drop(self, generation: int) -> None:
        """There is no other."""


class WatchedSecret(WatchedFiles[T]):
    """A file that holds a secret, looked at once a second at most: new ones are put there while we run.

    Raises UserError if there is none at the start.
    """

    def __init__(
        self, path: str, parse: Parse[T], *, what: str, clock: Clock, watch: Watch | None = None
    ) -> None:
        def read() -> T:
            try:
                return parse(read_secret(path))
            except UnicodeDecodeError:
                raise
            except ValueError as error:
                raise UserError(f"{what} in {path}: {error}") from None

        try:
            super().__init__(
                (path,), read, what=f"{what} of {path}", watch=watch or Watch(), monotonic=clock.monotonic
            )
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UserError(f"cannot read {what} from {path}: {why}") from None


def read_secret(path: str) -> str:
    """A file without the blanks around its content. Raises OSError, ValueError."""
    with Path(path).open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"longer than {MAX_FILE_BYTES} bytes: not a secret")
    return content.decode("utf-8").strip()


def make_credential(
    given: str, file: str, parse: Parse[T], *, what: str, clock: Clock, watch: Watch | None = None
) -> Credential[T]:
    """The one that is given, or that of the file. Raises UserError, also where there is neither or both."""
    if bool(given) is bool(file):
        raise UserError(f"give {what} or {what}_file, one of the two")
    if given:
        return FixedCredential(given, parse, what=what)
    return WatchedSecret(file, parse, what=what, clock=clock, watch=watch)


class NoAuth:
    """For APIs that want none."""

    refusal = "no credentials are sent, and the API wants some: set auth, or leave no_auth out"
    ready: Ready | None = None

    async def headers(self, url: str, body: Octets, headers: Mapping[str, str]) -> tuple[dict[str, str], int]:
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
    ready: Ready | None = None

    def __init__(self, name: str, value: Credential[str], mask: SecretMask) -> None:
        self._name = name
        self._value = value
        self.mask = mask

    async def headers(self, url: str, body: Octets, headers: Mapping[str, str]) -> tuple[dict[str, str], int]:
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
        raise UserError("username: it must not contain a colon")
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
        raise UserError(f"header: {name[:100]!r} cannot carry credentials: use another header")
    mask = SecretMask()

    def parse(text: str) -> str:
        if not _VALUE.fullmatch(text):
            raise ValueError("the value of a header is one line of ASCII")
        mask.add(text, text.rpartition(" ")[2])  # of "Token abc" the second word is the secret
        return text

    return SecretHeader(
        name, make_credential(token, token_file, parse, what="token", clock=clock, watch=watch), mask
    )
