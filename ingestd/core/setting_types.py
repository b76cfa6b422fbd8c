"""What settings are made of: sections, durations, sizes, paths, and secrets.

Each component has its settings in a section of its own; ``config/`` puts the sections together. A setting's
type says whether it holds a secret: a test asks for that. Every command makes these classes: a ``NamedTuple``
would take twenty times as long.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from ingestd.core import json_path, json_text, redaction, units
from ingestd.core.redaction import MASK

REQUIRED: Any = object()
"""The default of a setting that has to be given."""


class Before:
    """``func`` is given what was written. ``wanted``: the types it takes, for the JSON Schema; None: any."""

    def __init__(self, func: Callable[[Any], Any], wanted: Any = None) -> None:
        self.func = func
        self.wanted = wanted


class After:
    """``func`` is given a value of the setting's type. Both raise ValueError, in words for a person."""

    def __init__(self, func: Callable[[Any], Any]) -> None:
        self.func = func


class Matching:
    """A text of this regular expression, which begins with ^ and ends with $."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern


class Described:
    """What the JSON Schema for editors says of the setting."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema


class Tagged:
    """A table whose ``type`` says which section it is."""

    def __init__(self, sections: Callable[[], Mapping[str, type[Any]]]) -> None:
        self.sections = sections


class Later:
    """A table of the section ``module:Class``: both are imported where there is such a table."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def section(self) -> type[Any]:
        from importlib import import_module

        module, _, name = self.name.partition(":")
        section: type[Any] = getattr(import_module(module), name)
        return section


def parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type, and what ``Annotated`` has beside it. ``typing.get_origin`` takes four times as long."""
    metadata: tuple[Any, ...] | None = getattr(annotation, "__metadata__", None)
    if metadata is None:
        return annotation, ()
    first, *rest = metadata
    return (first.section, tuple(rest)) if isinstance(first, Later) else (annotation.__origin__, metadata)


class SecretStr:
    """A text that no representation shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return f"SecretStr({str(self)!r})"

    def __str__(self) -> str:
        return "**********" if self._text else ""


class SettingField:
    """One setting of a section. ``limits``: of pydantic's ``Field``: ge, gt, le, min_length, max_length,
    pattern; ``extra``: replaces its part of the JSON Schema. ``annotation``, ``metadata``: its type, and what
    ``Annotated`` has beside it; the section fills them in."""

    annotation: Any = Any
    metadata: tuple[Any, ...] = ()

    def __init__(
        self,
        default: Any,
        description: str = "",
        alias: str | None = None,
        extra: Any = None,
        limits: Mapping[str, Any] = {},
    ) -> None:
        self.default = default
        self.description = description
        self.alias = alias
        self.extra = extra
        self.limits = limits


def field(
    default: Any = REQUIRED,
    *,
    description: str = "",
    alias: str | None = None,
    extra: Any = None,
    **limits: Any,
) -> Any:
    """Stands behind the ``=`` of a setting: see ``SettingField``."""
    return SettingField(default, description, alias, extra, limits)


Seconds = Annotated[
    float,
    Before(units.seconds),
    Described(
        {"type": ["number", "string"], "minimum": 0, "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)?\s*$"}
    ),
]
"""A duration: a number, or text as ``5s``."""
Size = Annotated[
    int,
    Before(units.size),
    Described(
        {
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": r"^\s*\d+(\.\d+)?\s*([bB]|[kKmMgG][iI]?[bB])?\s*$",
        }
    ),
]
"""Bytes: a number, or text as ``16MiB``."""


def as_list(value: Any) -> Any:
    """Environment variables hold text: ``a,b``."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _object(value: Any) -> Any:
    """An object may also be given as JSON text."""
    if isinstance(value, str):
        return json_text.read(value) if value.strip() else {}
    return value


def _json_path(text: str) -> str:
    json_path.parse(text)
    return text


def as_object(kind: Any) -> Before:
    """Reads JSON text, too, where an object of this type is wanted."""
    return Before(_object, kind | str)


AS_OBJECT = as_object(dict[str, Any])
JsonPath = Annotated[str, After(_json_path)]
"""One path, in any notation of ``core/json_path.py``."""


class IntoEvent:
    """Marks a setting that is a path into an event, so that ``check`` can ask the schema for it."""


EventPath = Annotated[JsonPath, IntoEvent()]

_WHAT = f"it holds the mask that `config show` prints ({MASK}): set the real one"


class SecretSetting:
    """``what``: url (user-info and query are secrets), secret_url (all of it is), file (of a secret)."""

    def __init__(self, what: str) -> None:
        self.what = what


def _no_mask(secret: SecretStr) -> SecretStr:
    if redaction.is_masked(secret.get_secret_value()):
        raise ValueError(_WHAT)
    return secret


def _no_masked_url(url: str) -> str:
    if redaction.is_masked(url):
        raise ValueError(_WHAT)
    return url


Secret = Annotated[SecretStr, After(_no_mask)]
Url = Annotated[str, After(_no_masked_url), SecretSetting("url")]
SecretUrl = Annotated[str, After(_no_masked_url), SecretSetting("secret_url")]
SecretFile = Annotated[str, SecretSetting("file")]
"""Its path is not a secret. Code that reads the file gives its content to ``core.redaction``."""
NOTHING = SecretStr("")
