"""An event that may be changed: opened as far as a step looks into it, and the rest stays the bytes it was.

Values are ``msgspec.Raw`` until they are opened. Called by ``fields.py`` and ``program.py``.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ingestd.core.json_path import INDEX, Path, names

Container = Any
"""dict or list, with Raw or containers in it: mypy knows no recursive types that isinstance can narrow."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode


class Untransformable(ValueError):
    """A step cannot do its work on this event; the text says what is in its way, and where."""


class Draft:
    """``text()``: the event as it is now; the very object that it was made of, if nothing was changed."""

    __slots__ = ("_changed", "_root", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._root: dict[str, Any] | None = None
        self._changed = False

    @property
    def root(self) -> dict[str, Any]:
        """Its members. Raises Untransformable for what is not a JSON object."""
        if self._root is None:
            self._root = _open_object(self._text, ())
        return self._root

    def touch(self) -> None:
        """Something under ``root`` was changed."""
        self._changed = True

    def replace_root(self, root: dict[str, Any]) -> None:
        self._root, self._changed = root, True

    def text(self) -> bytes:
        if self._changed:
            self._text, self._changed = _encode(self._root), False
        return self._text


def opened(parent: Container, key: Any, path: Path) -> Any:
    """The value at ``key``, opened if it is an object or array; a scalar stays Raw. ``path``: that of the
    value, for words."""
    value = parent[key]
    if isinstance(value, msgspec.Raw):
        first = memoryview(value)[0]
        if first == 0x7B:
            value = parent[key] = _open_object(value, path)
        elif first == 0x5B:
            value = parent[key] = _elements(value)
    return value


def exact(root: dict[str, Any], path: Path) -> tuple[Container, Any] | None:
    """The container and the key or index at ``path``; None where it leads nowhere. Raises Untransformable
    where an array on the way would make several of it."""
    node: Container = root
    for depth, part in enumerate(path):
        key = _key_in(node, part, path[:depth])
        if key is None:
            return None
        if depth == len(path) - 1:
            return node, key
        node = opened(node, key, path[: depth + 1])
        if not isinstance(node, dict | list):
            return None
    return None


def each(root: dict[str, Any], path: Path) -> Sequence[tuple[Container, Any]]:
    """All places that ``path`` leads to: in an array that is not asked for one place, each element's."""
    node: Container = root
    for depth, part in enumerate(path[:-1]):
        if part not in node:
            return ()
        node = opened(node, part, path[: depth + 1])
        if isinstance(node, list):
            return [*_through(node, path, depth + 1)]
        if not isinstance(node, dict):
            return ()
    return ((node, path[-1]),) if path[-1] in node else ()


def _through(node: Container, path: Path, depth: int) -> Iterator[tuple[Container, Any]]:
    part, last = path[depth], depth == len(path) - 1
    if isinstance(node, list) and not INDEX.fullmatch(part):
        for at in range(len(node)):
            inner = opened(node, at, path[:depth])
            if isinstance(inner, dict | list):
                yield from _through(inner, path, depth)
        return
    key = _key_in(node, part, path[:depth])
    if key is None:
        return
    if last:
        yield node, key
        return
    inner = opened(node, key, path[: depth + 1])
    if isinstance(inner, dict | list):
        yield from _through(inner, path, depth + 1)


def room_for(root: dict[str, Any], path: Path) -> tuple[Container, Any]:
    """The container in which the last name of ``path`` can be put; objects on the way are made. Raises
    Untransformable where something else is in the way."""
    node: Container = root
    for depth, part in enumerate(path[:-1]):
        key = _key_in(node, part, path[:depth])
        if key is None:
            if isinstance(node, list):
                raise Untransformable(f"{names(path[:depth])} has no place {part}")
            node[part] = {}
            key = part
        node = opened(node, key, path[: depth + 1])
        if not isinstance(node, dict | list):
            what = names(path[: depth + 1])
            raise Untransformable(f"{what} is not an object, so nothing can be put into it")
    if isinstance(node, dict):
        return node, path[-1]
    key = _key_in(node, path[-1], path[:-1])
    if key is None:
        raise Untransformable(f"{names(path[:-1])} has no place {path[-1]}")
    return node, key


def raw(value: Any) -> bytes:
    """The JSON text of a value in a draft."""
    return bytes(value) if isinstance(value, msgspec.Raw) else _encode(value)


def _key_in(node: Container, part: str, above: Path) -> Any:
    """The key of ``part`` in it; None: it has none."""
    if isinstance(node, dict):
        return part if part in node else None
    if not INDEX.fullmatch(part):
        raise Untransformable(f"{names(above)} is an array: name the place, as {names(above)}[0]")
    return int(part) if int(part) < len(node) else None


def _open_object(text: "bytes | msgspec.Raw", path: Path) -> dict[str, Any]:
    """Raises Untransformable for a name that stands twice: of two a receiver may take the one that no
    step has seen."""
    try:
        found = _members(text)
    except (ValueError, RecursionError) as error:
        raise Untransformable(f"{_label(path)} cannot be read as a JSON object: {error}") from None
    if len(_encode(found)) != len(memoryview(text)) and (twice := _twice(bytes(text))):
        raise Untransformable(f"{_label(path)} has the name {twice[:100]!r} twice")
    return found


def _label(path: Path) -> str:
    return names(path) or "the event"


def _twice(text: bytes) -> str:
    """The name that stands in the outermost object twice; empty: none. Spaces and escapes alone make the
    length differ, too."""
    outermost: list[tuple[str, Any]] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        outermost[:] = pairs  # called for the outermost object last

    json.loads(text, object_pairs_hook=note, parse_int=str, parse_float=str)
    name, times = Counter(name for name, _ in outermost).most_common(1)[0] if outermost else ("", 0)
    return name if times > 1 else ""
