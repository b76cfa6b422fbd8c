"""Whether events of a schema can have what a key's paths name. Called at start, at a reload and by ``check``.

A path that no event has switches deduplication or order off in silence. Only the two schemas of our own are
looked into: their text is known, that of others is not.
"""

from collections.abc import Callable
from typing import NamedTuple

from ingestd.core.errors import UserError
from ingestd.core.json_path import Path, names
from ingestd.core.text import did_you_mean
from ingestd.schemas.key_paths import KeyPaths


class KeyDoubt(NamedTuple):
    """``impossible``: no valid event has it; else it is only not in the schema."""

    impossible: bool
    words: str


def key_of(setting: str, paths: str, schema: str, *, warn: Callable[[str], None]) -> KeyPaths:
    """The paths of a key. Raises UserError, which names the setting, for what is no path, and for one that no
    event of the schema can have; ``warn`` is told of one that its events probably lack."""
    try:
        keys = KeyPaths.parse(paths)
    except UserError as error:
        raise UserError(f"{setting}: {error}") from None
    for doubt in filter(None, (doubt_of(schema, path) for path in keys.paths)):
        if doubt.impossible:
            raise UserError(f"{setting}: {doubt.words}")
        warn(f"{setting}: {doubt.words}")
    return keys


def doubt_of(schema: str, path: Path) -> KeyDoubt | None:
    """None where events may well have it."""
    if schema == "interaction":
        return _of_interaction(path)
    if schema == "cloudevent":
        return _of_cloudevent(path)
    return None


def _of_interaction(path: Path) -> KeyDoubt | None:
    from ingestd.schemas.interaction import Interaction, RoutingMetadata

    known = [str(field.alias) for field in Interaction.model_fields.values()]
    inner = [str(field.alias) for field in RoutingMetadata.model_fields.values()]
    first, *rest = path
    if first == "attributes":
        return None
    if first == "routingMetadata":
        if len(rest) > 1 and rest[0] in inner:
            return _scalar(path, path[:2], "interaction")
        return None if not rest or rest[0] in inner else _unknown(path, inner, rest[0], "routingMetadata.")
    if first in known:
        return _scalar(path, path[:1], "interaction") if rest else None
    return _unknown(path, known, first)


def _of_cloudevent(path: Path) -> KeyDoubt | None:
    from ingestd.schemas.attributes import ATTRIBUTES, NAME

    first, *rest = path
    if first == "data":
        return None
    if first == "data_base64" or NAME.fullmatch(first):
        return _scalar(path, path[:1], "CloudEvent") if rest else None
    close = did_you_mean(first.lower(), ATTRIBUTES, cutoff=0.8)
    hint = f"did you mean {close}?" if close else f"did you mean data.{names(path)}?"
    return KeyDoubt(True, f"no CloudEvent has {names(path)}: attributes are a-z and 0-9 only; {hint}")


def _scalar(path: Path, at: Path, kind: str) -> KeyDoubt:
    return KeyDoubt(True, f"no {kind} has {names(path)}: {names(at)} is a single value, with nothing in it")


def _unknown(path: Path, known: list[str], name: str, above: str = "") -> KeyDoubt:
    close = did_you_mean(name, known, cutoff=0.5)
    hint = f"did you mean {above}{close}? " if close else ""
    said = f"the interaction schema does not know {names(path)}: {hint}"
    return KeyDoubt(False, f"{said}Events without it are neither copies of each other nor kept in order")
