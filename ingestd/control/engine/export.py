"""Writes what exists as the file that would make it. The same world gives the same text."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.resource import RemoteResource, ResourceKind
from ingestd.control.engine.state import ControlState
from ingestd.control.engine.world import World
from ingestd.core.toml import spell, spell_key

_MAX_NAME = 80


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
    """Remembered ones first, then by key and id, so that a new resource never takes a used name."""
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
        if value is not None:
            # a null within a list has no TOML: what can hold one is also taken as JSON text
            plain = json.dumps(value, ensure_ascii=False) if _has_null(value) else value
            lines.append(f"{spell_key(name)} = {spell(_literal(plain))}")
    return "\n".join([f"[{header}]", *lines, ""])


def _has_null(value: Any, *, in_list: bool = False) -> bool:
    if isinstance(value, Mapping):
        return any((one is None and in_list) or _has_null(one, in_list=in_list) for one in value.values())
    return isinstance(value, list | tuple) and any(
        one is None or _has_null(one, in_list=True) for one in value
    )


def _literal(value: Any) -> Any:
    """``${`` would be read as a variable."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, Mapping):
        return {name: _literal(inner) for name, inner in value.items()}
    return [_literal(inner) for inner in value] if isinstance(value, list | tuple) else value
