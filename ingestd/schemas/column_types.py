"""Which types of JSON a schema allows at a path. Asked by the reader of tables, whose cells are text.

Only what the schema says is used. Where it says nothing every type may be, text among them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ingestd.schemas.load import documents_of

Types = frozenset[str]
TypesAt = Callable[[Sequence[str]], Types]
"""Of the field at these names, one below the other."""

ANY: Types = frozenset({"string", "number", "integer", "boolean", "null", "object", "array"})
_MODELS = {
    "interaction": "ingestd.schemas.interaction_model:Interaction",
    "cloudevent": "ingestd.schemas.cloudevent_model:CloudEvent",
}
_MAX_STEPS, _MAX_DEPTH = 10_000, 100
"""A schema may refer to itself."""
_OF_VALUES: Mapping[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "array",
}


def column_types(spec: str) -> TypesAt:
    """By the ``schema`` setting. Never fails: what is wrong with the schema is said where it is loaded."""
    return partial(types_at, documents_of(_MODELS.get(spec, spec)))


def types_at(documents: Sequence[Any], path: Sequence[str]) -> Types:
    """What all of them allow. Documents of one model differ in how they name its fields."""
    allowed = ANY
    for document in documents:
        allowed &= _Walk(document).types(document, path)
    return allowed or ANY


class _Walk:
    def __init__(self, document: Any) -> None:
        self._document = document
        self._steps = self._depth = 0

    def types(self, schema: Any, path: Sequence[str]) -> Types:
        self._steps += 1
        if not isinstance(schema, dict) or self._steps > _MAX_STEPS or self._depth > _MAX_DEPTH:
            return ANY
        self._depth += 1
        allowed = self._allowed(schema, path)
        self._depth -= 1
        return allowed

    def _allowed(self, schema: Mapping[str, Any], path: Sequence[str]) -> Types:
        allowed = self._below(schema, path) if path else _own(schema)
        if isinstance(reference := schema.get("$ref"), str):
            allowed &= self.types(self._resolve(reference), path)
        for one in _listed(schema, "allOf"):
            allowed &= self.types(one, path)
        for word in ("anyOf", "oneOf"):
            if some := _listed(schema, word):
                allowed &= frozenset().union(*(self.types(one, path) for one in some))
        return allowed

    def _below(self, schema: Mapping[str, Any], path: Sequence[str]) -> Types:
        named = schema.get("properties")
        if isinstance(named, dict) and path[0] in named:
            return self.types(named[path[0]], path[1:])
        if "patternProperties" in schema:
            return ANY
        return self.types(schema.get("additionalProperties"), path[1:])

    def _resolve(self, reference: str) -> Any:
        found = self._document if reference.startswith("#") else None
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        return found


def _own(schema: Mapping[str, Any]) -> Types:
    allowed = ANY
    kinds = schema.get("type")
    if isinstance(kinds, str):
        kinds = [kinds]
    if isinstance(kinds, list):
        allowed &= frozenset(kinds) | ({"integer"} if "number" in kinds else frozenset())
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        allowed &= frozenset(_OF_VALUES.get(type(value), "string") for value in values)
    return allowed


def _listed(schema: Mapping[str, Any], word: str) -> list[Any]:
    found = schema.get(word)
    return found if isinstance(found, list) else []
