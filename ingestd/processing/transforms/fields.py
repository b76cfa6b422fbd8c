"""Steps that change fields of an event: keep, remove, rename, set, template, redact. Pure.

Each is made of its settings by a function here, and is a function of a draft. It raises Untransformable.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

import msgspec

from ingestd.core.errors import UserError
from ingestd.core.json_path import INDEX, Path, names, parse
from ingestd.processing.transforms.draft import (
    Container,
    Draft,
    Untransformable,
    each,
    exact,
    opened,
    raw,
    room_for,
)

FieldStep = Callable[[Draft], None]
MASKED = "***"
_string = msgspec.json.Decoder(str).decode
_encode = msgspec.json.encode


def remove(paths: Sequence[str]) -> FieldStep:
    parsed = [parse(path) for path in paths]

    def change(draft: Draft) -> None:
        for path in parsed:
            for container, key in each(draft.root, path):
                del container[key]
                draft.touch()

    return change


def keep(paths: Sequence[str]) -> FieldStep:
    """What is below one of ``paths`` stays; of arrays on the way what stays of their elements."""
    tree: dict[str, Any] = {}
    for path in map(parse, paths):
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node.setdefault(path[-1], {})
    _let_shorter_win(tree, [parse(path) for path in paths])

    def change(draft: Draft) -> None:
        root = draft.root
        kept = _pruned(root, tree)
        if kept is not root:
            draft.replace_root(kept)

    return change


def _let_shorter_win(tree: dict[str, Any], paths: Sequence[Path]) -> None:
    """``a`` and ``a.b``: all of ``a``."""
    for path in paths:
        node = tree
        for part in path:
            if part not in node:  # below one that is whole
                break
            node = node[part]
        else:
            node.clear()


def _pruned(node: Container, tree: Mapping[str, Any]) -> Container:
    """The same object where all of it stays. ``tree``: empty: all."""
    if isinstance(node, list):
        return _pruned_elements(node, tree)
    kept: dict[str, Any] = {}
    same = True
    for name in node:
        if name not in tree:
            same = False
            continue
        below = tree[name]
        value = opened(node, name, (name,)) if below else node[name]
        if below:
            if not isinstance(value, dict | list):
                same = False
                continue
            pruned = _pruned(value, below)
            same = same and pruned is value
            value = pruned
        kept[name] = value
    return node if same else kept


def _pruned_elements(node: list[Any], tree: Mapping[str, Any]) -> list[Any]:
    places = [part for part in tree if INDEX.fullmatch(part)]
    kept: list[Any] = []
    same = True
    for at in range(len(node)):
        below = tree.get(str(at)) if places else tree
        if below is None:
            same = False
            continue
        value = opened(node, at, (str(at),)) if below else node[at]
        if below:
            if not isinstance(value, dict | list):
                same = False
                continue
            pruned = _pruned(value, below)
            same = same and pruned is value
            value = pruned
        kept.append(value)
    return node if same else kept


def rename(pairs: Mapping[str, str]) -> FieldStep:
    parsed = [(parse(old), parse(new)) for old, new in pairs.items()]

    def change(draft: Draft) -> None:
        for old, new in parsed:
            if old[:-1] == new[:-1]:  # it stays where it is, in each element of an array, too
                for container, key in each(draft.root, old):
                    if isinstance(container, list):
                        raise Untransformable(f"{names(old[:-1])} is an array: its places have no names")
                    _move(draft, (container, key), (container, new[-1]), new)
            elif found := exact(draft.root, old):
                _move(draft, found, room_for(draft.root, new), new)

    return change


def _move(draft: Draft, old: tuple[Container, Any], new: tuple[Container, Any], path: Path) -> None:
    (container, key), (target, name) = old, new
    if target is container and name == key:
        return
    if isinstance(target, list) or name in target:
        raise Untransformable(f"there is something at {names(path)} already")
    target[name] = container[key]
    del container[key]
    draft.touch()


def set_values(values: Mapping[str, Any]) -> FieldStep:
    """A table in the place of a value sets what is in it. Raises UserError for what JSON cannot have."""
    constants = [
        (path, msgspec.Raw(_json(path, value)))
        for name, table in values.items()
        for path, value in leaves(parse(name), table)
    ]

    def change(draft: Draft) -> None:
        for path, value in constants:
            _put(draft, path, value)

    return change


def leaves(path: Path, value: Any) -> list[tuple[Path, Any]]:
    """What ``set`` sets there, and where."""
    if isinstance(value, Mapping) and value:
        return [leaf for name, inner in value.items() for leaf in leaves((*path, name), inner)]
    return [(path, value)]


def _json(path: Path, value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"set: the value for {names(path)} is not one of JSON: {error}") from None


def _put(draft: Draft, path: Path, value: msgspec.Raw) -> None:
    container, key = room_for(draft.root, path)
    there = container[key] if isinstance(container, list) or key in container else None
    if there is None or raw(there) != bytes(value):
        container[key] = value
        draft.touch()


def template(texts: Mapping[str, str], *, max_bytes: int) -> FieldStep:
    """Raises UserError for a text with a brace that stands for nothing."""
    parsed = [(parse(name), _parts(name, text)) for name, text in texts.items()]

    def change(draft: Draft) -> None:
        for path, parts in parsed:
            text = "".join([part if isinstance(part, str) else _text_at(draft.root, part) for part in parts])
            if len(text) > max_bytes:
                raise Untransformable(f"the text for {names(path)} is over {max_bytes} characters long")
            _put(draft, path, msgspec.Raw(_encode(text)))

    return change


def _parts(name: str, text: str) -> list[str | Path]:
    parts: list[str | Path] = []
    try:
        for literal, path, form, conversion in Formatter().parse(text):
            if literal:
                parts.append(literal)
            if path is None:
                continue
            if form or conversion or not path:
                raise ValueError("a path stands in braces, as {meta.version}; a brace itself is {{ or }}")
            parts.append(parse(path))
            if not parts[-1]:
                raise ValueError("a path of a field stands in braces, as {meta.version}")
    except ValueError as error:
        raise UserError(f"template: {name}: {error}") from None
    return parts


def _text_at(root: dict[str, Any], path: Path) -> str:
    found = exact(root, path)
    if found is None:
        raise Untransformable(f"there is nothing at {names(path)}")
    value = opened(*found, path)
    if not isinstance(value, msgspec.Raw):
        raise Untransformable(f"{names(path)} is not text, a number or truth value")
    text = bytes(value)
    if text == b"null":
        raise Untransformable(f"{names(path)} is null")
    return _string(text) if text[:1] == b'"' else text.decode()


def hash_values(paths: Sequence[str], key: bytes) -> FieldStep:
    """A BLAKE2b digest of the value, with ``key``: 32 hexadecimal digits. A text counts as its UTF-8, all
    else as its JSON text."""
    short = key if len(key) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(key).digest()

    def hidden(value: bytes) -> bytes:
        plain = _string(value).encode() if value[:1] == b'"' else value
        return b'"%s"' % hashlib.blake2b(plain, key=short, digest_size=16).hexdigest().encode()

    return _redact(paths, hidden)


def mask(paths: Sequence[str], last: int) -> FieldStep:
    """``***`` and the last characters of a text or number; of one that is no longer than these, none."""

    def hidden(value: bytes) -> bytes:
        text = _string(value) if value[:1] == b'"' else value.decode()
        if value[:1] in b"{[" or len(text) <= last or not last:
            return b'"***"'
        return _encode(MASKED + text[-last:])

    return _redact(paths, hidden)


def _redact(paths: Sequence[str], hidden: Callable[[bytes], bytes]) -> FieldStep:
    parsed = [parse(path) for path in paths]

    def change(draft: Draft) -> None:
        for path in parsed:
            for container, key in each(draft.root, path):
                value = raw(container[key])
                if value != b"null":  # there is nothing to hide
                    container[key] = msgspec.Raw(hidden(value))
                    draft.touch()

    return change
