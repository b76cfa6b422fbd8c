r"""The key of an event: the paths to it, whether events can have it, and how many have.

How a path is written: ``core/json_path.py``. Several are separated by commas; a comma that belongs to a name
is written with a backslash before it, ``a\,b``, or in quotes, ``['a,b']``. A path that no event has switches
deduplication or order off without an error, so events are counted, and ``key_doubts`` asks the schema.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from ingestd.core import json_path
from ingestd.core.errors import UserError
from ingestd.core.json_path import INDEX, Path
from ingestd.core.regex import regex

MAX_PATHS = 16
MAX_PARTS = 16
_MAX_NAME = 200

_LISTED = regex(
    r"""
    (?:\A|,)((?:
        \[\s*"(?:[^"\\]|\\.)*"\s*\] | \[\s*'(?:[^'\\]|\\.)*'\s*\] | \."(?:[^"\\]|\\.)*"(?=[.,\[]|\Z)
        | [^,\\] | \\. | \\\Z
    )*)
    """,
    re.VERBOSE | re.DOTALL,
)
"""A path in a list of them: up to a comma that is neither in quotes nor behind a backslash."""
# msgspec writes member names as they are, so those that JSON would escape cannot be compiled.
_UNCOMPILABLE = regex(r'["\\\x00-\x1f\ud800-\udfff]')
_string = msgspec.json.Decoder(str).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode


class KeyPaths:
    """One or more JSON paths, compiled. Raises UserError for invalid paths.

    The key is the values' texts joined by NUL. No two different lists of values have the same
    text: in a string U+0000 and U+0001 are escaped, and every other value is U+0001, ``=`` and its
    JSON text as it stands in the event (so ``1``, ``1.0`` and ``"1"`` are three keys).
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths: tuple[Path, ...] = tuple(_parse_path(path) for path in paths)
        if not self.paths or len(self.paths) > MAX_PATHS:
            raise UserError(f"a key takes 1 to {MAX_PATHS} paths, not {len(self.paths)}")
        if len(set(self.paths)) < len(self.paths):
            raise UserError("a key names the same path twice")
        self._strings = _compile(self.paths)
        self._separators = len(self.paths) - 1

    @classmethod
    def parse(cls, text: str) -> "KeyPaths":
        r"""The paths of ``"A,B.c"``; see the module for the backslash. Raises UserError."""
        return cls(_split(text))

    def of(self, event: bytes) -> str | None:
        """The key text of ``event``.

        None if a value is missing or null, if all of them are empty strings, or if the event is not JSON.
        Whether it is UTF-8 outside those values is not looked at: that is the schema's business.
        """
        try:
            if self._strings:
                key = self._strings(event)
                if key.count("\0") == self._separators and "\1" not in key:
                    return key if len(key) > self._separators else None
        except msgspec.ValidationError:
            pass  # not all of them are strings
        except (ValueError, RecursionError):
            return None  # it is not JSON
        try:
            if texts := _compile_any(self.paths):
                raws = texts(event)
                return None if _is_missing(raws) else _joined(map(_text, raws))
        except (ValueError, RecursionError):
            pass  # what should be an object is none: the walk below knows
        return self._walk(event)

    def _walk(self, event: bytes) -> str | None:
        """The definition of ``of``."""
        try:
            raws: list[Any] = [json_path.raw_at(_skip(event), path) for path in self.paths]
            return None if _is_missing(raws) else _joined(map(_text, raws))
        except (ValueError, RecursionError):
            return None


def _split(text: str) -> list[str]:
    if len(text) > MAX_PATHS * MAX_PARTS * _MAX_NAME:
        raise UserError("the paths of a key are too long")
    paths = [path.strip() for path in _LISTED.findall(text)]
    return [path.replace("\\,", ",") if path.startswith(("/", "#/")) else path for path in paths]


def _parse_path(text: str) -> Path:
    try:
        parts = json_path.parse(text)
    except ValueError as error:
        raise UserError(str(error).replace("is not a path:", "is not a path of a key:", 1)) from None
    if not parts:
        problem = f"{text!r} is the whole event" if text else "a path is missing"
        raise UserError(f"{problem}: expected a name in it, like orderId or meta.version")
    if len(parts) > MAX_PARTS or max(map(len, parts)) > _MAX_NAME:
        raise UserError(
            f"{text[:60]!r}: a path of a key has at most {MAX_PARTS} names of {_MAX_NAME} characters"
        )
    return parts


def _is_missing(raws: Sequence[Any]) -> bool:
    """Whether one of the values is not there, or null."""
    return any(raw is None or raw is msgspec.UNSET or bytes(raw) == b"null" for raw in raws)


def _joined(texts: Iterable[str]) -> str | None:
    texts = list(texts)
    return "\0".join(texts) if any(texts) else None


def _text(value: "bytes | msgspec.Raw") -> str:
    """Of a value's JSON text."""
    raw = bytes(value)
    if raw[:1] == b'"':
        return _string(raw).replace("\1", "\1\1").replace("\0", "\1" + "0")
    return "\1=" + raw.decode()


@lru_cache(maxsize=64)
def _compile(paths: tuple[Path, ...]) -> Callable[[bytes], str] | None:
    """A function that joins the values if all of them are strings, and raises ValueError if not.

    None where that cannot be compiled: indices, a path that is the beginning of another.
    """
    tree = _tree(paths)
    if tree is None:
        return None
    decode = msgspec.json.Decoder(_struct(tree)).decode
    pick = attrgetter(*(_attribute_path(tree, path) for path in paths))
    if len(paths) == 1:
        return lambda event: str(pick(decode(event)))
    return lambda event: "\0".join(pick(decode(event)))


@lru_cache(maxsize=64)
def _compile_any(paths: tuple[Path, ...]) -> Callable[[bytes], Sequence[Any]] | None:
    """A function that gives the JSON texts of the values, UNSET for each that is not there; None as above."""
    tree = _tree(paths)
    if tree is None or any(len(path) > 1 for path in paths):
        return None
    decode = msgspec.json.Decoder(_struct(tree, msgspec.Raw | msgspec.UnsetType)).decode
    return lambda event: msgspec.structs.astuple(decode(event))


def _tree(paths: tuple[Path, ...]) -> dict[str, Any] | None:
    """Names within names, those in which a value is empty; None where that cannot be compiled."""
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                return None
        if path[-1] in node or any(INDEX.fullmatch(part) or _UNCOMPILABLE.search(part) for part in path):
            return None
        node[path[-1]] = str
    return tree


def _struct(tree: dict[str, Any], leaf: Any = str) -> type[msgspec.Struct]:
    default = () if leaf is str else (msgspec.UNSET,)
    fields: list[Any] = [
        (f"f{number}", _struct(child, leaf) if isinstance(child, dict) else leaf, *default)
        for number, child in enumerate(tree.values())
    ]
    return msgspec.defstruct("Key", fields, gc=False, rename={f"f{n}": name for n, name in enumerate(tree)})


def _attribute_path(tree: dict[str, Any], path: Path) -> str:
    """``meta.version`` as the struct's attributes, ``f1.f0``."""
    names: list[str] = []
    node: Any = tree
    for part in path:
        names.append(f"f{list(node).index(part)}")
        node = node[part]
    return ".".join(names)


_MANY = 1_000
"""Events in a row without a key that lead to a warning, although earlier ones had it."""


class KeyWatch(msgspec.Struct):
    """``setting``: ``schema.dedup_key``, ``sinks.NAME.order_by``. ``paths``: as they were written."""

    setting: str
    paths: str
    events: int = 0
    without: int = 0
    in_a_row: int = 0
    """The last events, none of which had it; chunk by chunk."""
    _warned_at: int = 0

    def count(self, events: int, without: int) -> None:
        """Of a chunk, or of the part of one that was asked for its keys."""
        self.events += events
        self.without += without
        self.in_a_row = self.in_a_row + events if without == events else 0

    @property
    def found_none(self) -> bool:
        """There were events, and none had it."""
        return 0 < self.events == self.without

    @property
    def warning(self) -> str:
        """Empty as long as events have the key."""
        if self.found_none:
            return f"no event of {self.events:,} had {self._what()}: nothing was {self._lost()}"
        if self.in_a_row >= _MANY:
            return f"none of the last {self.in_a_row:,} events had {self._what()}: none was {self._lost()}"
        return ""

    def news(self) -> str:
        """The warning, once, and again when ten times as many events are concerned."""
        if self.in_a_row < self._warned_at:  # it was there in the meantime
            self._warned_at = 0
        warning = self.warning
        if not warning or self.in_a_row < 10 * self._warned_at:
            return ""
        self._warned_at = self.in_a_row
        return warning

    def describe(self) -> dict[str, object]:
        """For reports and ``/v1/status``."""
        return {
            "setting": self.setting,
            "paths": self.paths,
            "events": self.events,
            "without_key": self.without,
            "warning": self.warning or None,
        }

    def _what(self) -> str:
        name = "dedup key" if self.setting.endswith("dedup_key") else "order key"
        return f"the {name} `{self.paths[:100]}`"

    def _lost(self) -> str:
        lost = "deduplicated" if self.setting.endswith("dedup_key") else "kept in order"
        return f"{lost} ({self.setting})"
