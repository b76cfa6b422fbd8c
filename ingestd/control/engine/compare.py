"""What differs between two canonical values, and how a value is shown. Pure; for plans."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ingestd.core.redaction import MASK, names_a_secret, redact
from ingestd.core.text import cut, printable

Path = tuple[str, ...]
"""Characters of one value on a line."""


class Difference(NamedTuple):
    """One field; None: it is not there."""

    path: Path
    before: Any
    after: Any


def canonical(value: Any) -> str:
    """JSON text that is equal for values that mean the same: keys sorted, 1.0 is 1, True is not 1, a field
    that is null is a field that is not there (but not within a list, as in a pattern)."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Field by field, in the order of their paths."""
    return tuple(_differences(before, after, ()))


def masked(path: Path, value: Any) -> Any:
    """The value without what is, or looks like, a secret: for output, audit and plan files."""
    if isinstance(value, Mapping):
        return {name: masked((*path, str(name)), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(path, inner) for inner in value]
    if isinstance(value, str):
        return MASK if path and names_a_secret(path[-1]) else redact(value)
    return value


def shown(path: Path, value: Any) -> str:
    """One line for a person: masked, cut, and no control character of a remote's text reaches a terminal."""
    return cut(json.dumps(masked(path, _plain(value)), ensure_ascii=False))


def dotted(path: Path) -> str:
    return ".".join(printable(part) for part in path)


def _differences(before: Any, after: Any, path: Path) -> Iterator[Difference]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(name), after.get(name), (*path, str(name)))
    elif canonical(before) != canonical(after):
        yield Difference(path, before, after)


def _plain(value: Any, *, in_list: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): _plain(inner, in_list=in_list)
            for name, inner in value.items()
            if inner is not None or in_list
        }
    if isinstance(value, list | tuple):
        return [_plain(inner, in_list=True) for inner in value]
    if isinstance(value, frozenset | set):
        return sorted((_plain(inner, in_list=True) for inner in value), key=canonical)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
