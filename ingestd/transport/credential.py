"""A secret that stays as given, or stands in a file and is read again when that changes. For ``auth.py``.

Also the ``SecretMask`` that takes secrets out of answers: APIs that show what they were sent do exist.
"""

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ingestd.core import redaction
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.transport.watched_file import Watch, WatchedFiles

MAX_FILE_BYTES = 64 * 1024

_MIN_MASKED = 4  # masking a secret of one letter would garble the answer, and tell the letter
_REMEMBERED = 24

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Parse = Callable[[str], T]
"""What a secret's text becomes. Raises ValueError for one that does not serve, without quoting it."""


class Credential(Protocol[T_co]):
    """``FixedCredential`` or ``SecretFile``. ``generation`` names a secret without telling it."""

    @property
    def generation(self) -> int: ...

    def get(self) -> T_co: ...

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


class SecretFile(WatchedFiles[T]):
    """A file that holds a secret, looked at once a second at most: new ones are put there while we run.

    Raises UserError where there is none to begin with.
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
    return SecretFile(file, parse, what=what, clock=clock, watch=watch)


class SecretMask:
    """Puts ``***`` where one of the secrets that were in use lately stands in an answer."""

    def __init__(self, *secrets: str) -> None:
        self._forms: deque[bytes] = deque(maxlen=_REMEMBERED)
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """As it is, and as JSON has it. Also told to ``core.masking``, for all that is shown and kept."""
        for secret in secrets:
            redaction.hide(secret, passing=True)
            if len(secret) >= _MIN_MASKED:
                quoted = json.dumps(secret)[1:-1]
                forms = dict.fromkeys((secret, quoted, quoted.replace("/", "\\/")))
                self._forms.extend(f for form in forms if (f := form.encode()) not in self._forms)

    def __call__(self, text: bytes) -> bytes:
        for form in self._forms:
            if form in text:
                text = text.replace(form, b"***")
        return text
