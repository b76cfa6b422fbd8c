"""The effective settings, each with its origin, without secrets. Called by ``ingestd config show``."""

from collections.abc import Iterator
from typing import Any

from ingestd.config.loading import Origin, Origins, Overrides, SettingPlace, load_with_origins
from ingestd.config.secret_settings import held_by, show
from ingestd.config.settings import Settings
from ingestd.core import units
from ingestd.core.address import without_password
from ingestd.core.redaction import by_value
from ingestd.core.section import Section
from ingestd.core.setting_types import Before, SettingField
from ingestd.core.text import printable
from ingestd.core.toml import spell, spell_key

_DEFAULT = Origin("default")
_DURATIONS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_SIZES = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6, "KiB": 2**10, "kB": 10**3}


SettingLine = tuple[SettingPlace, Any, Origin]
"""One setting; its value masked, as TOML and JSON have it; None: not set."""


def listing(file: str | None, overrides: Overrides, *, in_json: bool) -> str:
    """All that the command prints. Raises UserError."""
    settings, origins = load_with_origins(file, overrides)
    if not in_json:
        return as_toml(settings, origins)
    import json

    return f"{json.dumps(as_json(settings, origins))}\n"


def lines(settings: Settings, origins: Origins) -> Iterator[SettingLine]:
    """Every setting; those of a table before the tables in it, as TOML wants it."""
    return _lines_of(settings, (), origins)


def as_toml(settings: Settings, origins: Origins) -> str:
    """A TOML document with a comment behind each value: its origin. It loads again, unless there is a secret
    in it: that is masked, and a mask is refused."""
    out: list[str] = []
    table: SettingPlace = ()
    for place, value, origin in lines(settings, origins):
        if place[:-1] != table:
            table = place[:-1]
            out.append(f"{chr(10) if out else ''}[{'.'.join(map(spell_key, table))}]")
        text = f"# {place[-1]} is not set" if value is None else f"{spell_key(place[-1])} = {spell(value)}"
        out.append(f"{text:<44}  # {printable(str(origin))}")
    return "\n".join(out) + "\n"


def as_json(settings: Settings, origins: Origins) -> dict[str, Any]:
    """``{"settings": {section: {field: value}}, "origins": {"section.field": text}}``."""
    tree: dict[str, Any] = {}
    where: dict[str, str] = {}
    for place, value, origin in lines(settings, origins):
        table = tree
        for part in place[:-1]:
            table = table.setdefault(part, {})
        table[place[-1]] = value
        where[".".join(place)] = str(origin)
    return {"settings": tree, "origins": where}


def _lines_of(section: Section, above: SettingPlace, origins: Origins) -> Iterator[SettingLine]:
    tables: list[tuple[SettingPlace, Section]] = []
    for field, info in type(section).model_fields.items():
        place, value = (*above, info.alias or field), getattr(section, field)
        if isinstance(value, Section):
            tables.append((place, value))
        elif isinstance(value, dict) and not any(isinstance(one, Before) for one in info.metadata):
            tables += [((*place, name), inner) for name, inner in value.items()]
        else:
            held = held_by(section, field, info)
            shown = _steps(value) if isinstance(value, list) else show(value, held)
            yield place, as_written(shown, info), _origin(place, value, origins)
    for place, inner in tables:
        yield from _lines_of(inner, place, origins)


def _steps(value: list[Any]) -> list[Any]:
    """Of a list of tables what was given in each, without what is secret of it."""
    return [
        {
            info.alias or name: show(getattr(one, name), held_by(one, name, info))
            for name, info in type(one).model_fields.items()
            if name in one.model_fields_set
        }
        if isinstance(one, Section)
        else one
        for one in value
    ]


def _origin(place: SettingPlace, value: Any, origins: Origins) -> Origin:
    """Of a table that is one value, as a pattern, what is in it has origins."""
    if place not in origins and isinstance(value, dict):
        return next((o for inner, o in origins.items() if inner[: len(place)] == place), _DEFAULT)
    return origins.get(place, _DEFAULT)


def as_written(value: Any, info: SettingField) -> Any:
    """What a person would have written."""
    if isinstance(value, str):
        return by_value(without_password(value))  # a password that was given as the user is none the less
    if isinstance(value, dict):  # as JSON text, which is read back
        return _json(value) if value else "{}"
    if isinstance(value, tuple):
        return list(value)
    readers = {getattr(one, "func", None) for one in info.metadata}
    if units.seconds in readers:
        return _duration(value)
    return _size(value) if units.size in readers else value


def _duration(value_s: float) -> str | float:
    """``15m``; the number itself where no text reads back as the same."""
    for unit, factor in _DURATIONS.items():
        number = f"{value_s / factor:.0f}"
        if value_s and float(number) * factor == value_s:  # as ``units.seconds`` reads it
            return f"{number}{unit}"
    return value_s


def _size(value_bytes: int) -> str | int:
    for unit, factor in _SIZES.items():
        number = value_bytes // factor
        if value_bytes and int(float(number) * factor) == value_bytes:  # as ``units.size`` reads it
            return f"{number}{unit}"
    return value_bytes


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
