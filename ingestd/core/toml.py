"""Values in the spelling of TOML, for a person to read and a file to hold. Pure."""

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.items import Item

_WIDTH = 100


def spell(value: Any) -> str:
    """A value: tables inline and sorted, without what is None in them; a long list with one line for each of
    its values, so that a change shows as one line."""
    item = _item(value)
    if isinstance(item, tomlkit.items.Array) and len(item.as_string()) > _WIDTH:
        item.multiline(True)
    return _visible(item.as_string())


def spell_key(name: str) -> str:
    return _visible(tomlkit.key(_valid(name)).as_string())


def _item(value: Any) -> Item:
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        for name, inner in sorted(value.items()):
            if inner is not None:
                table.append(_valid(str(name)), _item(inner))
        return table
    if isinstance(value, list | tuple):
        array = tomlkit.array()
        for inner in value:
            array.append(_item(inner))
        return array
    return tomlkit.string(_valid(value)) if isinstance(value, str) else tomlkit.item(value)


def _valid(text: str) -> str:
    """Half a surrogate pair has no spelling."""
    return text.encode("utf-8", "replace").decode()


def _visible(text: str) -> str:
    """What stands in strings and cannot be printed, as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else f"\\U{ord(c):08x}" for c in text)
