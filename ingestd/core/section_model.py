"""The pydantic model of a section, which says what a valid setting is. Imported where ``section.py`` does not
take a value, and for the JSON Schema of the configuration: it takes long."""

import types
import typing
from typing import Annotated, Any, Union

import pydantic

from ingestd.core.setting_types import (
    REQUIRED,
    After,
    Before,
    Described,
    Matching,
    SecretStr,
    SettingField,
    Tagged,
    parts,
)

_Section = type[Any]
"""A subclass of ``Section``, which calls this module."""

_CONFIG = pydantic.ConfigDict(extra="forbid", frozen=True, validate_default=False)


class _Model(pydantic.BaseModel):
    model_config = _CONFIG
    section: typing.ClassVar[_Section]


def judge(section: _Section, values: dict[str, Any]) -> dict[str, Any]:
    """What the section then holds. Raises ValidationError."""
    return _held(model_of(section).model_validate(_plain(values)))


def model_of(section: _Section) -> type[pydantic.BaseModel]:
    """The model, with the section's name, words and rules. It is made once."""
    if section in _made:
        return _made[section]
    fields = {
        name: (_type(field.annotation, field.metadata), _field(field))
        for name, field in section.model_fields.items()
    }
    rules: dict[str, Any] = {
        "prepare": pydantic.model_validator(mode="before")(_prepare),
        "check": pydantic.model_validator(mode="after")(_check),
    }
    create: Any = pydantic.create_model
    made: type[pydantic.BaseModel] = create(
        section.__name__, __base__=_Model, __doc__=section.__doc__, __validators__=rules, **fields
    )
    made.section = section  # type: ignore[attr-defined]
    _made[section] = made
    return made


_made: dict[_Section, type[pydantic.BaseModel]] = {}


def _prepare(cls: Any, values: Any) -> Any:
    return cls.section._prepare(values)  # noqa: SLF001


def _check(model: Any) -> Any:
    _made_of(model)._check()  # noqa: SLF001
    return model


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "_prepare")


def _made_of(model: Any) -> Any:
    made = object.__new__(model.section)
    vars(made).update(_held(model))
    return made


def _held(model: Any) -> dict[str, Any]:
    return {name: _raised(getattr(model, name)) for name in model.model_fields_set}


def _raised(value: Any) -> Any:
    """The value of a section, of that of a model."""
    if isinstance(value, _Model):
        return _made_of(value)
    if isinstance(value, pydantic.SecretStr):
        return SecretStr(value.get_secret_value())
    if isinstance(value, dict):
        return {name: _raised(inner) for name, inner in value.items()}
    return [_raised(one) for one in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Without sections and secrets of ours: as it stands in a file."""
    if _is_section(type(value)):
        fields = type(value).model_fields
        return {fields[name].alias or name: _plain(held) for name, held in vars(value).items()}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _field(field: SettingField) -> Any:
    default = field.default
    if _is_section(type(default)):
        default = model_of(type(default)).model_construct()
    elif isinstance(default, SecretStr):
        default = pydantic.SecretStr(default.get_secret_value())
    return pydantic.Field(
        ... if default is REQUIRED else default,
        alias=field.alias,
        description=field.description or None,
        json_schema_extra=field.extra,
        **field.limits,
    )


def _type(annotation: Any, metadata: tuple[Any, ...] = ()) -> Any:
    """pydantic's type for one of ours."""
    kind, more = parts(annotation)
    if kind is not annotation:
        return _type(kind, (*more, *metadata))
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if tagged := next((one for one in metadata if isinstance(one, Tagged)), None):
        models = tuple(map(model_of, tagged.sections().values()))
        return Annotated[Union[models], pydantic.Field(discriminator="type")]  # noqa: UP007
    found: Any = annotation
    if annotation is SecretStr:
        found = pydantic.SecretStr
    elif _is_section(annotation):
        found = model_of(annotation)
    elif origin in (typing.Union, types.UnionType):
        found = Union[tuple(map(_type, inner))]  # noqa: UP007
    elif origin in (list, dict, tuple):
        found = origin[tuple(one if one is ... else _type(one) for one in inner)]
    for one in metadata:
        found = Annotated[found, _rule(one)]
    return found


def _rule(one: Any) -> Any:
    if isinstance(one, Before):
        wanted = {} if one.wanted is None else {"json_schema_input_type": _type(one.wanted)}
        return pydantic.BeforeValidator(one.func, **wanted)
    if isinstance(one, After):
        return pydantic.AfterValidator(one.func)
    if isinstance(one, Matching):
        return pydantic.StringConstraints(pattern=one.pattern)
    return pydantic.WithJsonSchema(one.schema) if isinstance(one, Described) else one
