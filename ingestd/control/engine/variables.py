"""Variables of a file: ``${NAME}`` of ``[variables]`` and --var, ``${env:NAME}`` of the environment.

They make one file fit several environments. They are not for secrets: those are references, ``"env:NAME"``.
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from ingestd.core import json_text
from ingestd.core.errors import UserError
from ingestd.core.redaction import names_a_secret
from ingestd.core.text import cut, suggestion

MAX_VARIABLES = 1000
MAX_TEXT_CHARACTERS = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)
_USE = re.compile(r"\$(\$(?=\{))|\$\{([^{}]{0,200})\}", re.ASCII)
"""``$${`` stands for ``${``."""

VariableValues = Mapping[str, Any]


def read_variables(
    table: Any, given: Mapping[str, str], environ: Mapping[str, str] | None = None
) -> VariableValues:
    """Every value by what stands between the braces. ``given`` wins, read as the type that the file has.
    Raises UserError."""
    if not isinstance(table, Mapping):
        raise UserError("[variables]: a table of names and values expected")
    if len(table) > MAX_VARIABLES:
        raise UserError(f"[variables]: there are {len(table)}, at most {MAX_VARIABLES} fit")
    for name in table:
        if not _NAME.fullmatch(name):
            raise UserError(f"[variables]: {_short(name)}: a name has letters, digits and _")
        _refuse_secret(name, f"variables.{name}")
    values: dict[str, Any] = dict(table)
    for name, text in given.items():
        if name not in values:
            raise UserError(f"--var {_short(name)}: there is none in [variables]{_suggestion(name, values)}")
        values[name] = _typed(text, values[name], name)
    environ = os.environ if environ is None else environ
    return values | {f"env:{name}": value for name, value in environ.items()}


def fill_in(value: Any, values: VariableValues, *, where: str = "") -> Any:
    """The same with every use replaced, once: what is put in is not looked at again. A text that is nothing
    but one variable takes its type. Raises UserError for a name that there is not."""
    if isinstance(value, Mapping):
        return {name: fill_in(inner, values, where=_below(where, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [fill_in(inner, values, where=where) for inner in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    whole = _USE.fullmatch(value)
    if whole and whole[2] is not None:
        return _value_of(whole[2], values, where)
    filled = _USE.sub(lambda use: "$" if use[1] else _text_of(use[2], values, where), value)
    if len(filled) > MAX_TEXT_CHARACTERS:
        raise UserError(f"{where}: with its variables it is over {MAX_TEXT_CHARACTERS} characters")
    return filled


def _value_of(name: str, values: VariableValues, where: str) -> Any:
    if name.startswith("env:"):
        _refuse_secret(name.removeprefix("env:"), where)
    if name not in values:
        if name.startswith("env:"):
            raise UserError(f"{where}: there is no environment variable {_short(name[4:])}")
        raise UserError(f"{where}: there is no variable {_short(name)}{_suggestion(name, values)}")
    return values[name]


def _text_of(name: str, values: VariableValues, where: str) -> str:
    value = _value_of(name, values, where)
    if isinstance(value, Mapping | list):
        raise UserError(f"{where}: ${{{name}}} is a list or a table, and cannot be a part of a text")
    return value if isinstance(value, str) else json.dumps(value)


def _refuse_secret(name: str, where: str) -> None:
    if names_a_secret(name):
        raise UserError(
            f"{where}: {_short(name)} is called like a secret, and a variable would end up where it can be "
            f'read: give the field that it is for a reference, as "env:{_short(name)}"'
        )


def _typed(text: str, like: Any, name: str) -> Any:
    if isinstance(like, str):
        return text
    try:
        value = json_text.read(text)
    except ValueError as error:
        if isinstance(like, dict | list):
            raise UserError(f"--var {name}: it is not JSON: {cut(str(error))}") from None
        value = None
    if type(value) is not type(like):
        raise UserError(
            f"--var {name}: the file has {json.dumps(like, default=str)[:60]}: the same type expected"
        )
    return value


def _below(where: str, name: str) -> str:
    return cut(f"{where}.{name}" if where else str(name), 300)


def _short(text: str) -> str:
    return cut(text, 100)


def _suggestion(name: str, known: VariableValues) -> str:
    return suggestion(name, [one for one in known if not one.startswith("env:")])
