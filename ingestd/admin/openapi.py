"""The document of the JSON API (OpenAPI 3.1), from the types of the read model."""

from typing import Any

from ingestd import __version__
from ingestd.admin.read_model import Changed, Charts, Overview

_TOKEN: list[dict[str, list[str]]] = [{"token": []}]
_FILTER: dict[str, dict[str, Any]] = {
    "sink": {"type": "string"},
    "reason": {"type": "string"},
    "fingerprint": {"type": "string"},
    "event_id": {"type": "string"},
    "event_type": {"type": "string"},
    "producer": {"type": "string"},
    "text": {"type": "string", "maxLength": 200},
    "state": {"type": "string", "enum": ["waiting", "delivered", "all"]},
    "older": {"type": "string", "pattern": r"^([0-9]{1,4}(ms|s|m|h)?|[0-9]{1,3}d)$"},
    "newer": {"type": "string", "pattern": r"^([0-9]{1,4}(ms|s|m|h)?|[0-9]{1,3}d)$"},
}
_OBJECT = {"type": "object"}
_SOMETHING = {"type": "string", "pattern": r"\S"}
_LETTERS = {
    "type": "object",
    "required": ["letters", "total"],
    "properties": {"letters": {"type": "array", "items": _OBJECT}, "total": {"type": "integer"}},
}
_GROUPS = {
    "type": "object",
    "required": ["groups"],
    "properties": {"groups": {"type": "array", "items": _OBJECT}},
}
_KEY = {
    "type": "object",
    "required": ["key"],
    "properties": {"key": {"type": "string", "pattern": r"\S"}},
}


def document() -> dict[str, Any]:
    """With a schema of its own for each answer."""
    number = {
        "name": "number",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999},
    }
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    query = [{"name": field, "in": "query", "schema": schema} for field, schema in _FILTER.items()]
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 500}}
    chosen: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **_FILTER,
            "ids": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "integer", "minimum": 0, "maximum": 2**53},
            },
            "dry_run": {"type": "boolean", "default": True},
        },
    }
    wanted: dict[str, dict[str, Any]] = dict.fromkeys(_FILTER, _SOMETHING)
    wanted |= {"ids": {}, "all": {"const": True}, "state": {"enum": ["delivered", "all"]}}
    named = [{"required": [field], "properties": {field: value}} for field, value in wanted.items()]
    whole = {"name": "whole", "in": "query", "schema": {"type": "boolean"}}
    to_delete = {
        **chosen,
        "properties": {**chosen["properties"], "all": {"type": "boolean", "default": False}},
        "anyOf": [{"properties": {"dry_run": {"const": True}}}, *named],
    }
    changed = _schema(Changed)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ingestd, the admin address", "version": __version__},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": {
            "/v1/overview": {"get": _get("How the service is doing", _schema(Overview))},
            "/v1/charts": {"get": _get("The last hour", _schema(Charts))},
            "/v1/letters": {"get": _get("Dead letters", _LETTERS, [*query, limit])},
            "/v1/where": {
                "get": _get(
                    "Where an event is, by its key or a request's id",
                    _OBJECT,
                    [
                        {
                            "name": "key",
                            "in": "query",
                            "required": True,
                            "schema": {"type": "string", "pattern": r"\S"},
                        }
                    ],
                ),
                "post": {
                    **_post("The same, for what is too long for an address", _OBJECT, _KEY),
                    "security": [],
                },
            },
            "/v1/producers": {"get": _get("Producers, and who was refused", _OBJECT)},
            "/v1/letters/groups": {"get": _get("Dead letters by cause", _GROUPS, query)},
            "/v1/letters/{number}": {"get": _get("One dead letter", _OBJECT, [number])},
            "/v1/letters/retry": {"post": _post("Have letters sent again", changed, chosen)},
            "/v1/letters/export": {"get": _export([*query, whole])},
            "/v1/letters/park": {"post": _post("Have letters wait for a person", changed, chosen)},
            "/v1/letters/purge": {"post": _post("Delete letters", changed, to_delete)},
            "/v1/letters/{number}/edit": {
                "post": _post("Correct a letter, and have it sent", changed, {}, [number])
            },
            "/v1/sinks/{name}/park": {"post": _post("Set a sink aside", changed, None, [name])},
            "/v1/sinks/{name}/resume": {"post": _post("Send to a parked sink again", changed, None, [name])},
            "/v1/sinks/{name}/probe": {"post": _post("Try a sink at once", changed, None, [name])},
        },
    }


def _schema(kind: Any) -> dict[str, Any]:
    from pydantic import TypeAdapter  # late: a service that is not asked for it starts without

    schema: dict[str, Any] = TypeAdapter(kind).json_schema(ref_template="#/$defs/{model}")
    inlined: dict[str, Any] = _inline(schema, schema.pop("$defs", {}))
    return inlined


def _inline(node: Any, definitions: dict[str, Any]) -> Any:
    """References into a schema within the document would have to be written again: there are few."""
    if isinstance(node, list):
        return [_inline(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inline(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return {name: _inline(value, definitions) for name, value in node.items()}


def _get(summary: str, schema: Any, parameters: list[Any] | None = None) -> dict[str, Any]:
    return {"summary": summary, "parameters": parameters or [], "responses": _responses(schema)}


def _export(parameters: list[Any]) -> dict[str, Any]:
    operation = _get("Events of dead letters, a line each, or whole letters", None, parameters)
    lines = {"application/x-ndjson": {"schema": {"type": "string"}}}
    headers = {
        "Ingestd-Damaged": {
            "description": "How many payloads are damaged on disk: as events they are left out",
            "schema": {"type": "integer"},
        },
        "Ingestd-Damaged-Letters": {
            "description": "The numbers of the first of their letters",
            "schema": {"type": "string"},
        },
    }
    operation["responses"]["200"] = {"description": "JSON lines", "headers": headers, "content": lines}
    return operation


def _post(summary: str, schema: Any, body: Any, parameters: list[Any] | None = None) -> dict[str, Any]:
    operation = {**_get(summary, schema, parameters), "security": _TOKEN}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _responses(schema: Any) -> dict[str, Any]:
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    words = {
        "400": "what was asked for makes no sense",
        "401": "a console token is needed",
        "403": "the token's role does not allow it",
        "404": "it is not there",
        "422": "the event is not valid",
        "503": "enough look through the files already: ask again in a moment",
    }
    refusals = {
        status: {"description": text, "content": {"application/json": {"schema": error}}}
        for status, text in words.items()
    }
    ok = {"description": "the answer", "content": {"application/json": {"schema": schema}}}
    return {"200": ok, **refusals}
