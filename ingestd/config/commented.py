"""A configuration file to begin with: what was chosen, and all else as a comment with its default.

Descriptions are those of the settings. Called by ``ingestd init``.
"""

import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from ingestd.config.loading import SettingPlace
from ingestd.config.settings import Settings
from ingestd.config.show import as_written
from ingestd.core.section import Section
from ingestd.core.setting_types import REQUIRED, SecretStr, SettingField, Tagged, parts
from ingestd.core.toml import spell, spell_key

_WIDTH = 100
_HEAD = """\
Configuration of ingestd. A line as #name shows a default: take the # away to change it.
What is in force: ingestd config show. Help in an editor: ingestd config schema.\
"""

Chosen = Mapping[SettingPlace, Any]
"""Settings that are written as such, by their place in the file."""


def write_commented(chosen: Chosen) -> str:
    """The text of the file. A table by name, as [sinks.NAME], is there where something in it was chosen; of a
    sink that has its ``type``."""
    return "\n".join([*_comment(_HEAD), *_section(Settings, (), chosen)]) + "\n"


def required_of(section: type[Section]) -> dict[str, SettingField]:
    """The settings that nobody but the user knows, but for ``type``."""
    return {
        name: info
        for name, info in section.model_fields.items()
        if name != "type" and (info.default is REQUIRED or info.description.endswith("needed"))
    }


def description_of(info: SettingField) -> str:
    """What a setting means, and the values that it can have where these are few."""
    choices = [
        one for one in map(str, _choices(info.annotation)) if not re.search(rf"\b{one}\b", info.description)
    ]
    if not choices:
        return info.description
    every = ", ".join(map(str, _choices(info.annotation)))
    return f"{info.description}; one of {every}" if info.description else f"one of {every}"


def _choices(kind: Any) -> tuple[Any, ...]:
    """Of ``Literal["a", "b"]``, also where it is annotated or may be None."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return inner
    return () if origin in (dict, list) else next(filter(None, map(_choices, inner)), ())


def _section(section: type[Section], place: SettingPlace, chosen: Chosen) -> Iterator[str]:
    tables: list[tuple[type[Section], SettingPlace]] = []
    for name, info in section.model_fields.items():
        at = (*place, info.alias or name)
        if isinstance(info.default, Section):
            tables.append((type(info.default), at))
        elif table := table_of(info):
            tables += [(_one_of(table, at, named, chosen), (*at, named)) for named in _names(at, chosen)]
        elif name != "type" or at not in chosen:  # that stands above all
            yield from _comment(description_of(info))
            yield _setting(at, info, chosen)
    for inner, at in tables:
        used = any(one[: len(at)] == at for one in chosen)
        yield ""
        yield from _comment((inner.__doc__ or "").partition("\n")[0])
        yield f"{'' if used or len(at) == 1 else '#'}[{'.'.join(map(spell_key, at))}]"
        if kind := chosen.get((*at, "type")):
            yield f"type = {spell(kind)}"
        yield from _section(inner, at, chosen)


def _setting(at: SettingPlace, info: SettingField, chosen: Chosen) -> str:
    if at in chosen:
        return f"{spell_key(at[-1])} = {spell(chosen[at])}"
    if info.default is REQUIRED or info.default is None:
        return f"#{spell_key(at[-1])} is not set"
    default = "" if isinstance(info.default, SecretStr) else as_written(info.default, info)
    return f"#{spell_key(at[-1])} = {spell(default)}"


def table_of(info: SettingField) -> type[Section] | Tagged | None:
    """What a table by name holds: a section, or one of several by its type; None: it is no such table."""
    if typing.get_origin(info.annotation) is not dict:
        return None
    kind, more = parts(typing.get_args(info.annotation)[1])
    return next((one for one in (kind, *more) if isinstance(one, Tagged) or _is_section(one)), None)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _one_of(table: type[Section] | Tagged, at: SettingPlace, named: str, chosen: Chosen) -> type[Section]:
    return table.sections()[chosen[(*at, named, "type")]] if isinstance(table, Tagged) else table


def _names(at: SettingPlace, chosen: Chosen) -> list[str]:
    inside = [one[len(at)] for one in chosen if one[: len(at)] == at and len(one) > len(at) + 1]
    return list(dict.fromkeys(inside))


def _comment(text: str) -> list[str]:
    text = text.replace("``", "")
    return [f"# {line}" for row in text.splitlines() for line in textwrap.wrap(row, _WIDTH - 2)]
