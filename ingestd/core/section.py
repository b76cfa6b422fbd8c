"""A table of the configuration: a class whose settings have a type, a default, limits and a description.

``section_model.py`` makes a pydantic model of it, which says what a valid setting is, and the words for
a refusal. To import pydantic and to build its models takes longer than all else that a short command does.
So here is a pass that accepts first: it takes no value that the model refuses, and makes the same of it (a
property test holds it to that). Whatever it does not take is the model's to judge.
"""

import operator
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from ingestd.core.setting_types import (
    REQUIRED,
    After,
    Before,
    Matching,
    SecretStr,
    SettingField,
    Tagged,
    parts,
)

_MAX_DIGITS = 18
_Reader = Callable[[Any], Any]


class Section:
    """Unknown keys are refused, and it cannot be changed. What it has of pydantic's models has their names.

    An instance holds what was given; defaults are attributes of its class. Raises pydantic's ValidationError,
    which is a ValueError. A subclass may have ``_prepare`` and ``_check``.
    """

    model_fields: ClassVar[dict[str, SettingField]] = {}
    _readers: ClassVar[dict[str, _Reader]] = {}
    """Of the settings that were given so far."""

    def __init_subclass__(cls) -> None:
        fields: dict[str, SettingField] = {}
        for base in reversed(cls.__mro__[1:]):
            fields |= base.__dict__.get("model_fields", {})
        for name, annotation in _annotations(cls).items():
            kind, metadata = parts(annotation)
            if getattr(kind, "__origin__", None) is ClassVar:
                continue
            given = cls.__dict__.get(name, REQUIRED)
            fields[name] = made = given if isinstance(given, SettingField) else SettingField(given)
            made.annotation, made.metadata = kind, metadata
            if made.default is not REQUIRED:
                setattr(cls, name, made.default)
            elif given is not REQUIRED:
                delattr(cls, name)
        cls.model_fields, cls._readers = fields, {}

    def __init__(self, /, **values: Any) -> None:
        held = vars(self)
        try:
            held |= self._accepted(values)
            self._check()
        except ValueError:
            from ingestd.core.section_model import judge

            held.clear()
            held |= judge(type(self), values)

    @classmethod
    def _prepare(cls, values: Any) -> Any:
        """What is meant by ``values``, before anything is looked at."""
        return values

    def _check(self) -> None:
        """Raises ValueError for settings that do not fit together."""

    @classmethod
    def _accepted(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Raises ValueError for values that are not taken here."""
        values = cls._prepare(values)
        found = {}
        for name, field in cls.model_fields.items():
            written = field.alias or name
            if written in values:
                readers = cls.__dict__["_readers"]
                if name not in readers:
                    readers[name] = reader_of(field)
                found[name] = readers[name](values[written])
            elif field.default is REQUIRED:
                raise ValueError(written)
        if len(found) != len(values):
            raise ValueError
        return found

    @classmethod
    def model_validate(cls, tree: Any) -> Self:
        """The section of a table. Raises ValueError with every error in it."""
        if isinstance(tree, cls):
            return tree
        if isinstance(tree, dict) and all(isinstance(name, str) for name in tree):
            return cls(**tree)
        raise ValueError

    @property
    def model_fields_set(self) -> set[str]:
        """Names of the settings that were given."""
        return set(vars(self))

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """Another one, with values that are taken as they are."""
        made = object.__new__(type(self))
        vars(made).update({**vars(self), **update})
        return made

    def model_dump(self, *, by_alias: bool = False) -> dict[str, Any]:
        """All settings as dicts."""
        return {
            (by_alias and field.alias) or name: _dumped(getattr(self, name), by_alias)
            for name, field in self.model_fields.items()
        }

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __eq__(self, other: object) -> bool:
        same = type(other) is type(self)
        return same and all(getattr(self, name) == getattr(other, name) for name in self.model_fields)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.model_fields)
        return f"{type(self).__name__}({shown})"


def _annotations(cls: type) -> dict[str, Any]:
    """Its own. ``inspect``, which has a function for it, takes long to import."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(cls)
    return dict(vars(cls).get("__annotations__", {}))


def reader_of(field: SettingField) -> _Reader:
    """What makes of a value the one that is meant. It raises ValueError for what is not taken here."""
    return _reader(field.annotation, field.metadata, field.limits)


def _dumped(value: Any, by_alias: bool) -> Any:
    if isinstance(value, Section):
        return value.model_dump(by_alias=by_alias)
    if isinstance(value, dict):
        return {name: _dumped(inner, by_alias) for name, inner in value.items()}
    return [_dumped(inner, by_alias) for inner in value] if isinstance(value, list) else value


def _reader(annotation: Any, metadata: tuple[Any, ...] = (), limits: Mapping[str, Any] = {}) -> _Reader:
    """Reads values of such a type. It raises ValueError for others, and for some that the model takes."""
    annotation, more = parts(annotation)
    metadata = (*more, *metadata)
    tagged = next((one for one in metadata if isinstance(one, Tagged)), None)
    steps = [one.func for one in metadata if isinstance(one, Before)]
    steps.append(_of_tagged(tagged) if tagged else _of_type(annotation))
    patterns = [one.pattern for one in metadata if isinstance(one, Matching)]
    if limits or patterns:
        steps.append(_within(limits, patterns))
    steps += [one.func for one in metadata if isinstance(one, After)]

    def read(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return read


def _of_type(kind: Any) -> _Reader:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        read = _reader(next(one for one in inner if one is not types.NoneType))
        return lambda value: None if value is None else read(value)
    if origin is Literal:
        return lambda value: value if isinstance(value, str) and value in inner else _refuse(value)
    if origin is dict:
        keys, values = map(_reader, inner)
        return lambda table: {keys(name): values(one) for name, one in _a(dict, table).items()}
    if origin in (list, tuple):
        read = _reader(inner[0])
        return lambda found: origin(map(read, _a(list, found)))
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind.model_validate
    return _READERS.get(kind) or (lambda value: _a(kind, value))


def _of_tagged(tagged: Tagged) -> _Reader:
    def read(value: Any) -> Any:
        if isinstance(value, Section):
            return value
        kind = _a(dict, value).get("type")
        section = tagged.sections().get(kind) if isinstance(kind, str) else None
        return section.model_validate(value) if section else _refuse(value)

    return read


def _within(limits: Mapping[str, Any], patterns: Sequence[str]) -> _Reader:
    checks = [(_LIMITS[name], limit) for name, limit in limits.items()]
    checks += [(_LIMITS["pattern"], pattern) for pattern in patterns]

    def check(value: Any) -> Any:
        fits = value is None or all(holds(value, limit) for holds, limit in checks)
        return value if fits else _refuse(value)

    return check


_LIMITS: dict[str, Callable[[Any, Any], object]] = {
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "min_length": lambda value, least: len(value) >= least,
    "max_length": lambda value, most: len(value) <= most,
    "pattern": lambda value, pattern: re.fullmatch(pattern, value),
}


def _a(kind: Any, value: Any) -> Any:
    return value if kind is Any or isinstance(value, kind) else _refuse(value)


def _refuse(value: object) -> Any:
    raise ValueError


def _bool(value: Any) -> bool:
    found = _BOOLS.get(value) if isinstance(value, str) else _a(bool, value)
    return bool(_a(bool, found))


def _int(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS:
        return int(value)
    return int(_refuse(value) if isinstance(value, bool) else _a(int, value))


def _float(value: Any) -> float:
    return float(_refuse(value) if isinstance(value, bool) else _a((int, float), value))


def _secret(value: Any) -> SecretStr:
    return value if isinstance(value, SecretStr) else SecretStr(_a(str, value))


_BOOLS = {"true": True, "false": False, "1": True, "0": False}
_READERS: dict[Any, _Reader] = {bool: _bool, int: _int, float: _float, SecretStr: _secret}
