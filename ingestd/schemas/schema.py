"""The contract of a schema, and why an event is refused, in words that a person can act on.

Called by every schema and by ``processing/validate.py``. The words of the libraries mislead: of half a
surrogate pair at the end of a string a decoder says that the data was truncated, of a byte order mark that a
character is invalid. Payloads may hold personal data, so a value is shown only short and escaped.
"""

import re
from collections.abc import Callable, MutableSequence, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from ingestd.core.reasons import Reason
from ingestd.core.regex import regex
from ingestd.core.text import cut

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_MESSAGE = 200
MAX_ERRORS = 10


class FieldError(NamedTuple):
    """One thing that is wrong with an event."""

    field: str
    """Dotted path, ``routingMetadata.actionType``; empty for the event as a whole."""
    message: str
    """What was expected and what was found; cut to ``MAX_MESSAGE`` characters."""


class Refusal(NamedTuple):
    """Why an event is not valid: ``Reason.INVALID`` or ``Reason.UNPARSABLE``.

    ``errors``: at least one, at most ``MAX_ERRORS``.
    """

    reason: Reason
    errors: list[FieldError]

    @property
    def words(self) -> str:
        if len(self.errors) == 1:
            ((field, message),) = self.errors
            return f"{field}: {message}" if field else message
        return "; ".join([f"{e.field}: {e.message}" if e.field else e.message for e in self.errors])


Keys = MutableSequence[str | None]
"""Parallel to events. A string says that the event is valid: its key as text, or ``""`` where it has none."""


class Schema(Protocol):
    """What a valid event is, and which of its fields make it the same event as another."""

    @property
    def name(self) -> str: ...

    @property
    def default_key(self) -> tuple[str, ...]:
        """JSON paths (see ``key_paths``) of the deduplication key; empty if there is none."""
        ...

    def keys(self, events: Sequence[bytes]) -> Keys:
        """The compiled pass over a chunk: for each event its key text, or None.

        A string says that the event is valid: its ``default_key`` as text, or ``""`` where it has
        none. None says only that this pass did not accept it: ask ``explain``. It never accepts
        what ``explain`` refuses.
        """
        ...

    def explain(self, event: bytes) -> Refusal | None:
        """The full check of one event: None if it is valid."""
        ...


LookAhead = Callable[[Sequence[bytes]], None]
"""Does with a chunk's events what needs neither order nor the interpreter's lock, before anybody asks for it:
another thread than that of the event loop does it meanwhile."""


@runtime_checkable
class LooksAhead(Protocol):
    """A schema that may have such a part."""

    def look_ahead(self, secret: bytes, part: tuple[int, int] | None) -> LookAhead | None:
        """A part of ``keys``, and of a window's digests under ``secret``: of the keys of a ``part`` (see
        ``core/sequences.py``), None: of all. None: there is none."""
        ...


Explanation = tuple[Refusal | None, str | None]
"""Why an event is refused, and its ``default_key``; ``""``: it has none. None: ``explain`` knows, and the key
has to be looked for."""


@runtime_checkable
class ExplainsTogether(Protocol):
    """A schema that may know of several events at once, at less cost, why they are refused."""

    def usual(self, events: Sequence[bytes], indices: Sequence[int]) -> Sequence[Explanation]:
        """Of the events at ``indices``; what is said is what ``explain`` says."""
        ...


NOT_EXPLAINED: Explanation = (None, None)
MAX_SHOWN = 40
_MAX_FIELD = 100


def show(value: object) -> str:
    """A value for a message, at most ``MAX_SHOWN`` characters; containers only by their type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # The quotes take two characters.
        return f"'{cut(value, MAX_SHOWN - 2)}'"
    if isinstance(value, int) and value.bit_length() > 100:
        return "a very large integer"
    if isinstance(value, int | float):
        return repr(value)
    return "an array" if isinstance(value, list | tuple) else "an object"


def unparsable(message: str) -> Refusal:
    return Refusal(Reason.UNPARSABLE, [FieldError("", cut(message))])


def invalid(message: str, field: str = "") -> Refusal:
    return Refusal(Reason.INVALID, [field_error(field, message)])


def field_error(field: str, message: str) -> FieldError:
    return FieldError(cut(field, _MAX_FIELD), cut(message))


def expected(field: str, message: str, value: object) -> FieldError:
    """``message`` says what was expected; what was found stands behind it."""
    found = f", found {show(value)}"
    return FieldError(cut(field, _MAX_FIELD), cut(message, MAX_MESSAGE - len(found)) + found)


def from_pydantic(error: "ValidationError") -> Refusal:
    """The refusal for what ``validate_json`` raised."""
    errors: list[FieldError] = []
    for details in islice(error.errors(include_url=False, include_context=False), MAX_ERRORS):
        if details["type"] == "json_invalid":
            return unparsable(details["msg"].replace("Invalid JSON: ", "not JSON: ", 1))
        field = ".".join(map(str, details["loc"]))
        if details["type"] == "missing":
            errors.append(field_error(field, "required, but missing"))
            continue
        message = details["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ", 1)
        # A rule about several members has the whole event as its input: that says nothing.
        whole = details["type"] == "value_error" and not details["loc"]
        errors.append(field_error(field, message) if whole else expected(field, message, details["input"]))
    return Refusal(Reason.INVALID, errors)


_BOMS = {b"\xef\xbb\xbf": "a byte order mark", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_NULS = regex(rb"\0+")
_BLANK = b" \t\r\n"
_PLACE = regex(r"JSON is malformed: (.*) \(byte (\d+)\)")
_TRUNCATED = "Input data was truncated"
_ENDS = "it ends before its value does"
ENDS = f"not JSON: {_ENDS}"
_WORD = regex(rb"[A-Za-z]+")
_SHOWN = regex(rb"[!-~]")
# Escapes one after the other, whole pairs at once; what is left over is half a pair.
_PAIR = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = regex(
    rb"(?:[^\\]++|\\(?:[^u]|u(?![dD][89a-fA-F])|" + _PAIR + rb"))*+(\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)


def describe(text: bytes, error: Exception) -> str:
    """What is wrong with ``text``, of which a strict decoder (msgspec) said ``error``; bytes count from 0."""
    return _before(text) or _half(text, str(error)) or f"not JSON: {_within(text, str(error))}"


def is_truncated(error: Exception) -> bool:
    """Whether a strict decoder (msgspec) came to the end before the value did."""
    return str(error) == _TRUNCATED


def not_utf8(at: int, byte: int) -> str:
    return f"not UTF-8: the byte 0x{byte:02x} (byte {at})"


def nested_deeper(limit: int) -> str:
    return f"arrays and objects are nested deeper than {limit}"


def _before(text: bytes) -> str:
    """What stands before the value, where that is all that can be said of it."""
    if not text.strip(_BLANK):
        return "not JSON: there is nothing in it"
    if nuls := _NULS.match(text):
        nul_bytes = "a NUL byte stands" if len(nuls[0]) == 1 else f"{len(nuls[0])} NUL bytes stand"
        return f"not JSON: {nul_bytes} before the value"
    for mark, name in _BOMS.items():
        if text.startswith(mark):
            return f"not JSON: {name}" + (" stands before the value" if len(mark) == 3 else ", not UTF-8")
    return ""


def _half(text: bytes, message: str) -> str:
    """No decoder gets past half a pair: if there is one before the place of the error, that is the error."""
    found = _HALF.match(text) if b"\\u" in text else None
    if not found:
        return ""
    place = _PLACE.fullmatch(message)
    if place and int(place[2]) <= found.start(1):
        return ""
    escape = found[1].decode()
    return f"half a surrogate pair: {escape} without its other half (byte {found.start(1)})"


def _within(text: bytes, message: str) -> str:
    if message == _TRUNCATED:
        return _ENDS
    place = _PLACE.fullmatch(message)
    if not place:
        return message
    what, at = place[1], int(place[2])
    if what == "trailing characters":
        return f"something follows its value (byte {at - 1})"  # the decoder counts it from 1
    if what != "invalid character" or at >= len(text):
        return f"{what} (byte {at})"
    if text[at] == 0:
        return f"a NUL byte (byte {at})"
    if text.startswith(b"\xef\xbb\xbf", at):
        return f"a byte order mark (byte {at})"
    if word := next(
        (w for w in _WORD.finditer(text, max(0, at - 8), at + 12) if w.start() <= at < w.end()), None
    ):
        return f"{word[0].decode()} is not a JSON value (byte {word.start()})"
    shown = text[at : at + 1]
    name = f"'{shown.decode()}'" if _SHOWN.match(shown) else f"0x{text[at]:02x}"
    return f"invalid character {name} (byte {at})"
