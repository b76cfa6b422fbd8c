"""Values in the spelling of TOML, for a person to read and a file to hold. Pure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tomlkit.items import Item

_WIDTH = 100
_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def spell(value: Any) -> str:
    """A value: tables inline and sorted, without what is None in them; a long list with one line for each of
    its values, so that a change shows as one line."""
    if (plain := _plain(value)) is not None:
        return plain
    import tomlkit

    item = _item(value)
    if isinstance(item, tomlkit.items.Array) and len(item.as_string()) > _WIDTH:
        item.multiline(True)
    return _visible(item.as_string())


def spell_key(name: str) -> str:
    if name and _BARE.issuperset(name):
        return name
    import tomlkit

    return _visible(tomlkit.key(_valid(name)).as_string())


def _plain(value: Any) -> str | None:
    """What is spelled without a library, which takes 5 ms to load; None: not this."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str) and value.isascii() and value.isprintable() and not {'"', "\\"} & set(value):
        return f'"{value}"'
    if not isinstance(value, list | tuple) or None in (inner := [*map(_plain, value)]):
        return None
    text = f"[{', '.join(map(str, inner))}]"
    return text if len(text) <= _WIDTH else None


def _item(value: Any) -> "Item":
    import tomlkit

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
