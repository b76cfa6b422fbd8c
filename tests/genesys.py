"""Objects that the models of Genesys Cloud take, made from ``ingestd/schemas/genesys_models.json``."""

import functools
import uuid
from typing import Any

from hypothesis import strategies as st

from ingestd.schemas.genesys_models import event_api, model

TIME = "2026-01-01T10:00:00.000Z"
_TEXTS = st.text(min_size=1, max_size=8)
_PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "text": _TEXTS,
    "uuid": st.uuids().map(str),
    "time": st.sampled_from([TIME, "2026-01-01T10:00:00+00:00", "2026-01-01T12:00:00.123456789+02:00"]),
    "boolean": st.booleans(),
    "integer": st.integers(-(2**31), 2**31),
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
    "any": st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXTS, inner, max_size=2),
        max_leaves=4,
    ),
}


def uuid_of(name: str) -> str:
    """The same for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def least(name: str, **changes: Any) -> dict[str, Any]:
    """An object of a model with what it requires and no more; ``changes``: ... leaves a field out."""
    fields = {field: spec for field, spec in model(name).fields.items() if spec.get("required")}
    made = {field: _least_value(field, spec) for field, spec in fields.items()} | changes
    return {field: value for field, value in made.items() if value is not ...}


def least_entry(array: str, **changes: Any) -> dict[str, Any]:
    """Of ``POST /api/v2/events/conversations``."""
    return least(event_api("conversations").arrays[array], **changes)


def _least_value(field: str, spec: dict[str, Any]) -> Any:
    if values := spec.get("enum"):
        return values[0]
    plain = {"text": field, "uuid": uuid_of(field), "time": TIME, "boolean": True, "integer": 1, "number": 1}
    kind = spec["type"]
    if kind.startswith("["):
        return []
    return plain[kind] if kind in plain else {} if kind.startswith(("{", "any")) else least(kind)


@functools.cache
def objects(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Any that the model takes: with every field and value that it knows."""
    required, optional = {}, {}
    for field, spec in model(name).fields.items():
        values = st.sampled_from(spec["enum"]) if spec.get("enum") else _values(spec["type"])
        (required if spec.get("required") else optional)[field] = values
    return st.fixed_dictionaries(required, optional=optional)


def _values(kind: str) -> st.SearchStrategy[Any]:
    if kind.startswith("["):
        return st.lists(_values(kind[1:-1]), max_size=3)
    if kind.startswith("{"):
        return st.dictionaries(_TEXTS, _values(kind[1:-1]), max_size=3)
    return _PLAIN[kind] if kind in _PLAIN else objects(kind)
