"""Writes what exists as the file that would make it. The same world gives the same text."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.resource import RemoteResource, ResourceKind
from ingestd.control.engine.state import ControlState
from ingestd.control.engine.world import World

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_MAX_NAME = 80
_WIDTH = 100


def export_document(
    world: World, *, state: ControlState | None = None, kinds: Mapping[str, ResourceKind] = KINDS
) -> str:
    """TOML, sorted; its plan is empty, but for the references of secrets that have to be filled in.

    A table keeps the name that ``state`` remembers, else it is called after its resource.
    """
    parts = [_HEAD]
    for kind in (name for name in kinds if name in world.found):
        for name, found in sorted(_named(world.found[kind], state).items()):
            table = {**kinds[kind].export(found), **_remembered(found, state)}
            parts.append(_table(f"{kind}.{name}", table))
    return "\n".join(parts)


def _remembered(found: RemoteResource, state: ControlState | None) -> dict[str, Any]:
    """What the API knows nothing of."""
    record = state.record(found.kind, found.id) if state else None
    if record is None:
        return {}
    after = {"after": sorted(".".join(address) for address in record.after)} if record.after else {}
    return after | ({"protected": True} if record.protected else {})


_HEAD = "# Written by ingestd export. Secrets are references that have to be filled in.\n"


def _named(found: tuple[RemoteResource, ...], state: ControlState | None) -> dict[str, RemoteResource]:
    """Those that are remembered first, then by key and id: a newcomer takes nobody's name."""
    records = {one.id: state.record(one.kind, one.id) for one in found} if state else {}
    named: dict[str, RemoteResource] = {}
    for one in sorted(found, key=lambda one: (records.get(one.id) is None, one.key, one.id)):
        record = records.get(one.id)
        name = record.name if record else _slug(one.key)
        if name in named:
            name = f"{name}-{_slug(one.id)[:12]}"
        if name in named:
            name = f"{name}-{_slug(one.id)}"
        named[name] = one
    return named


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-").lower()[:_MAX_NAME] or "unnamed"


def _table(header: str, table: Mapping[str, Any]) -> str:
    lines = []
    for name, value in sorted(table.items()):
        if (
            value is not None
        ):  # a null within a list has no TOML: what can hold one is also taken as JSON text
            plain = _text(json.dumps(value, ensure_ascii=False)) if _has_null(value) else _toml(value)
            lines.append(f"{_key(name)} = {plain}")
    return "\n".join([f"[{header}]", *lines, ""])


def _has_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_null, value.values()))
    return isinstance(value, list | tuple) and any(one is None or _has_null(one) for one in value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _toml(value: Any, depth: int = 0) -> str:
    """Inline; a long list of plain values takes one line each, so that a change shows as one line."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        parts = [f"{_key(str(k))} = {_toml(v, depth + 1)}" for k, v in sorted(value.items()) if v is not None]
        return f"{{ {', '.join(parts)} }}" if parts else "{}"
    if isinstance(value, list | tuple):
        items = [_toml(item, depth + 1) for item in value]
        line = f"[{', '.join(items)}]"
        if depth or len(line) <= _WIDTH:
            return line
        return "\n".join(["[", *(f"  {item}," for item in items), "]"])
    return json.dumps(value)


def _text(text: str) -> str:
    """JSON's spelling is TOML's, but for what cannot be printed; half a surrogate pair has none in either.
    ``${`` would be read as a variable."""
    text = text.replace("${", "$${").encode("utf-8", "replace").decode()
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted if quoted.isprintable() else "".join(_escaped(char) for char in quoted)


def _escaped(char: str) -> str:
    return char if char.isprintable() else f"\\U{ord(char):08x}"
