"""Whether events of a schema can have what a path names. For keys, and for other paths into an event.

A JSON Schema is followed as far as it says which names there are; what it leaves open is taken. Of a pydantic
model its JSON Schema is looked at. Asked at start, at a reload and by ``check``.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from ingestd.core.errors import UserError
from ingestd.core.json_path import INDEX, Path, names
from ingestd.core.text import did_you_mean
from ingestd.schemas.key_paths import KeyPaths

_MAX_STEPS = 300
"""Of one path through a schema: what refers to itself is left open past it."""


class KeyDoubt(NamedTuple):
    """``impossible``: no valid event has it; else it is only not in the schema."""

    impossible: bool
    words: str


def key_of(setting: str, paths: str, schema: str, *, warn: Callable[[str], None]) -> KeyPaths:
    """The paths of a key. Raises UserError, which names the setting, for what is no path, and for one that no
    event of the schema can have; ``warn`` is called for one that its events probably lack."""
    try:
        keys = KeyPaths.parse(paths)
    except UserError as error:
        raise UserError(f"{setting}: {error}") from None
    for doubt in filter(None, (doubt_of(schema, path) for path in keys.paths)):
        if doubt.impossible:
            raise UserError(f"{setting}: {doubt.words}")
        warn(f"{setting}: {doubt.words} {_LOST}")
    return keys


def doubt_of(schema: str, path: Path) -> KeyDoubt | None:
    """None where events may well have it, or nobody can say. ``schema``: as it is set."""
    if schema == "interaction":
        return _of_interaction(path)
    if schema == "cloudevent":
        return _of_cloudevent(path)
    return _of_documents(schema, path)


def _of_interaction(path: Path) -> KeyDoubt | None:
    from ingestd.schemas.interaction_model import Interaction, RoutingMetadata

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
    hint = f"did you mean {above}{close}?" if close else "its events need not have it."
    return KeyDoubt(False, f"the interaction schema does not know {names(path)}: {hint}")


def _of_documents(schema: str, path: Path) -> KeyDoubt | None:
    """Of those that a pydantic model has, by alias and by name, each may be what the events have."""
    from ingestd.schemas.load import documents_of

    best: KeyDoubt | None = None
    for document in documents_of(schema):
        doubt = _Walk(document).doubt(path)
        if doubt is None:
            return None
        best = best if best and (doubt.impossible or not best.impossible) else doubt
    return best


class _Fit(IntEnum):
    """``OPEN``: others are named, and it may be there; ``FREE``: nothing is said of it."""

    NO = 0
    OPEN = 1
    FREE = 2
    NAMED = 3


def _all_of(fits: Sequence[_Fit]) -> _Fit:
    """What the strictest says; that one names it counts for all."""
    return max(fits) if _Fit.NAMED in fits and _Fit.NO not in fits else min(fits)


class _Walk:
    """Down one JSON Schema along a path. What cannot be decided may be there."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._steps = 0
        self._known: list[str] = []
        self._above: Path = ()

    def doubt(self, path: Path) -> KeyDoubt | None:
        fit = self._fit(self._document, path, ())
        close = did_you_mean(path[len(self._above)], self._known, cutoff=0.5) if self._known else None
        hint = f"did you mean {names((*self._above, close, *path[len(self._above) + 1 :]))}?" if close else ""
        if fit is _Fit.NO:
            listed = ", ".join(self._known[:_MOST_LISTED])
            hint = hint or (f"there are: {listed}" if listed else "what is above it is a single value")
            return KeyDoubt(True, f"no event of this schema has {names(path)}: {hint}")
        if fit is _Fit.OPEN and close:
            return KeyDoubt(
                False, f"the schema does not name {names(path)}, though events may have it: {hint}"
            )
        return None

    def _fit(self, schema: Any, path: Path, above: Path) -> _Fit:
        self._steps += 1
        if schema is False:
            return _Fit.NO
        if not path:
            return _Fit.NAMED
        if not isinstance(schema, dict) or self._steps > _MAX_STEPS:
            return _Fit.FREE
        fits = [self._own(schema, path, above)]
        if isinstance(reference := schema.get("$ref"), str):
            fits.append(self._fit(self._resolve(reference), path, above))
        fits += [self._fit(one, path, above) for one in _listed(schema, "allOf")]
        for word in ("anyOf", "oneOf"):
            if some := _listed(schema, word):
                fits.append(max(self._fit(one, path, above) for one in some))
        return _all_of(fits)

    def _own(self, schema: Mapping[str, Any], path: Path, above: Path) -> _Fit:
        """What the schema's own words say, without those that it is composed of."""
        kinds = schema.get("type", ["object", "array"])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        inner, rest = schema.get("properties", {}), path[1:]
        if not isinstance(kinds, list) or not isinstance(inner, dict):
            return _Fit.FREE
        fits = [_Fit.NO]
        if "array" in kinds and INDEX.fullmatch(path[0]):
            items = schema.get("items", True)
            left_open = isinstance(items, list) or "prefixItems" in schema
            fits.append(self._fit(True if left_open else items, rest, (*above, path[0])))
        if "object" in kinds and path[0] in inner:
            fits.append(self._fit(inner[path[0]], rest, (*above, path[0])))
        elif "object" in kinds:
            fits.append(self._unnamed(schema, inner, path, above))
        return max(fits)

    def _unnamed(self, schema: Mapping[str, Any], inner: Mapping[str, Any], path: Path, above: Path) -> _Fit:
        if schema.get("patternProperties"):
            return _Fit.FREE
        if inner:
            self._known, self._above = [*(self._known if self._above == above else ()), *inner], above
        more = schema.get("additionalProperties", True)
        if more is True and not any(word in schema for word in _COMPOSED):
            more = schema.get("unevaluatedProperties", True)
        fit = self._fit(more, path[1:], (*above, path[0]))
        return min(fit, _Fit.OPEN if inner else _Fit.FREE)

    def _resolve(self, reference: str) -> Any:
        """Within the document; what is elsewhere, or named otherwise, is left open."""
        found = self._document
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name, True) if isinstance(found, dict) else True
        return found if reference.startswith("#/") else self._document if reference == "#" else True


def _listed(schema: Mapping[str, Any], word: str) -> list[Any]:
    found = schema.get(word)
    return found if isinstance(found, list) else []


_LOST = "Events without it are neither copies of each other nor kept in order"
_COMPOSED = ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "dependencies")
_MOST_LISTED = 8
