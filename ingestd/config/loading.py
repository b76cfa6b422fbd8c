"""Settings from all four places, nearest first: command line, environment, TOML file, default.

Called by every command; ``config show`` also asks where each value came from.
"""

import os
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from ingestd.config.settings import Settings
from ingestd.core.errors import UserError
from ingestd.core.section import Section
from ingestd.core.setting_types import parts
from ingestd.core.text import did_you_mean, printable, suggestion

_PLAIN = {
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
}
"""pydantic's type of error -> what it says to a person."""

Overrides = Mapping[tuple[str, str], Any]
"""(section, field) -> value from the command line; None: not given."""

SettingPlace = tuple[str, ...]
"""A setting's path as it is written in the file: ("ingest", "tls", "cert_file")."""


class Origin(NamedTuple):
    """Where a value came from. ``name``: of the file or the variable."""

    kind: Literal["default", "file", "environment", "command line"]
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


Origins = Mapping[SettingPlace, Origin]
"""Of every value that is not its default."""

_VENDOR_NAMES: dict[str, SettingPlace] = {
    "GENESYS_CLIENT_ID": ("api", "client_id"),
    "GENESYS_CLIENT_SECRET": ("api", "client_secret"),
    "GENESYS_CLIENT_ID_FILE": ("api", "client_id_file"),
    "GENESYS_CLIENT_SECRET_FILE": ("api", "client_secret_file"),
}
_REGION_NAMES = ("GENESYS_REGION", "GENESYS_ENV", "GENESYS_ORG_HOST")
_SAME_THING: dict[SettingPlace, SettingPlace] = {
    ("api", "url"): ("api", "region"),
    ("api", "region"): ("api", "url"),
}
_MOVED: dict[SettingPlace, str] = {("ingest", "max_depth"): "schema.max_depth"}
_LISTS = {"transforms": "step", "tests": "number"}
"""Settings that are lists of tables, and what one of them is called."""
_MAX_FILE_BYTES = 1024 * 1024


def load(file: str | None, overrides: Overrides, environ: Mapping[str, str] | None = None) -> Settings:
    """See ``load_with_origins``."""
    return load_with_origins(file, overrides, environ)[0]


class ConfigFile:
    """Reads the settings again each time it is called; ``origins`` are those of the last time that worked.
    Raises UserError."""

    def __init__(self, path: str | None, overrides: Overrides) -> None:
        self.path = path
        self.origins: Origins = {}
        self._overrides = overrides

    def __call__(self) -> Settings:
        settings, self.origins = load_with_origins(self.path, self._overrides)
        return settings


def load_with_origins(
    file: str | None, overrides: Overrides, environ: Mapping[str, str] | None = None
) -> tuple[Settings, Origins]:
    """Settings, and where they came from. Raises UserError that names the key, and what was meant."""
    environ = os.environ if environ is None else environ
    tree = _read_file(file) if file else {}
    origins = dict.fromkeys(_leaves(tree), Origin("file", file or ""))
    nearer = [
        *((place, value, Origin("environment", name)) for name, place, value in _from_environment(environ)),
        *((place, value, Origin("command line")) for place, value in overrides.items()),
    ]
    for place, value, origin in nearer:
        if value is None:
            continue
        _table(tree, place, file)[place[-1]] = value
        origins[place] = origin
        if other := _SAME_THING.get(place):  # the nearer one wins
            _table(tree, other, file).pop(other[-1], None)
            origins.pop(other, None)
    try:
        return Settings.model_validate(tree), origins
    except ValueError as error:  # pydantic's
        raise UserError(_explain(error, origins, file)) from None


def check_places(values: Mapping[SettingPlace, Any]) -> None:
    """Whether a file with these values would load. Raises UserError that names the place."""
    tree: dict[str, Any] = {}
    for place, value in values.items():
        _table(tree, place, None)[place[-1]] = value
    try:
        Settings.model_validate(tree)
    except ValueError as error:  # pydantic's
        raise UserError(_explain(error, {}, None)) from None


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """``INGESTD_…`` names that set nothing and look as if they should, each with what was probably meant.

    They are no errors: Kubernetes puts such names (``INGESTD_PORT``) into every container beside a
    service called ingestd.
    """
    known = dict(_variables(Settings))
    sections = tuple({name[: name.index("_", len("INGESTD_")) + 1] for name in known})
    found = []
    for name in sorted(set(environ) - set(known)):
        close = did_you_mean(name, known, cutoff=0.92)
        if name.startswith("INGESTD_") and (close or name.startswith(sections)):
            hint = f"; did you mean {close}?" if close else ""
            found.append(f"{printable(name)} sets nothing{hint}")
    return found


def _read_file(file: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(file, "rb") as opened:
            data = opened.read(_MAX_FILE_BYTES + 1)
        if len(data) > _MAX_FILE_BYTES:
            raise UserError(f"{printable(file)} is over 1 MiB: is it the configuration?")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise UserError(f"cannot read the configuration {printable(file)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{printable(file)} is not TOML: {printable(str(error))}") from None


def _leaves(tree: Mapping[str, Any]) -> Iterator[SettingPlace]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from ((name, *rest) for rest in _leaves(value))
        else:
            yield (name,)


def _table(tree: dict[str, Any], place: SettingPlace, file: str | None) -> dict[str, Any]:
    """The table that holds ``place``, made if need be."""
    table = tree
    for depth, part in enumerate(place[:-1], 1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"{printable(file or '')}: [{'.'.join(place[:depth])}] must be a table")
    return table


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, SettingPlace, str]]:
    """(variable, place, value); later ones win."""
    region = next((name for name in _REGION_NAMES if environ.get(name)), None)
    if region:
        yield region, ("api", "region"), environ[region]
    for name, place in _VENDOR_NAMES.items():
        if environ.get(name):
            yield name, place, environ[name]
    if any(name.startswith("INGESTD_") for name in environ):  # to name them all takes a while
        for name, place in _variables(Settings):
            if name in environ:
                yield name, place, environ[name]


def _variables(model: type[Section], above: SettingPlace = ()) -> Iterator[tuple[str, SettingPlace]]:
    """The variable of every setting that is one value. Tables by name (producers, sinks), and lists of them,
    have none."""
    for field, info in model.model_fields.items():
        place = (*above, info.alias or field)
        if typing.get_origin(info.annotation) is dict or _is_list_of_tables(info.annotation):
            continue
        if inner := _model_of(info.annotation):
            yield from _variables(inner, place)
        else:
            yield "_".join(("INGESTD", *place)).upper(), place


def _model_of(annotation: Any) -> type[Section] | None:
    """The section of a field: its own class, or the one that a table by name, or a list, holds."""
    if typing.get_origin(annotation) in (dict, list):
        annotation, _ = parts(typing.get_args(annotation)[-1])
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _is_list_of_tables(annotation: Any) -> bool:
    return typing.get_origin(annotation) is list and _model_of(annotation) is not None


def _explain(error: Any, origins: Origins, file: str | None) -> str:
    from ingestd.sinks.registry import SINK_TYPES  # not needed where all is well

    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = tuple(str(part) for part in first["loc"] if part != "[key]")
    kind = ""
    if place[:1] == ("sinks",) and len(place) > 2 and place[2] in SINK_TYPES:
        kind, place = place[2], place[:2] + place[3:]  # pydantic tells which of the types it took it for
    if place[:1] == ("ingest",) and place[1:2] == place[2:3]:
        place = place[:2] + place[3:]  # one source without a name of its own
    where = f"{_origin_of(place, origins, file)}{_dotted(place)}"
    if first["type"] == "extra_forbidden":
        at = _origin_of(place, origins, file)
        line = f"{at}there is no setting {_dotted(place)}{_suggestion(place, kind)}"
    elif first["type"].startswith("union_tag"):
        line = f"{where}{_type_of_sink(error, place)}"
    else:
        message = _PLAIN.get(first["type"]) or first["msg"].removeprefix("Value error, ")
        message = message.replace("Input should be ", "expected ", 1)
        line = f"{where}: {message}" if place else f"{where}{message}"
    return printable(line)


def _type_of_sink(error: Any, place: SettingPlace) -> str:
    """Of a table that has no ``type``, or none that there is. Values of it are not shown."""
    from ingestd.sinks.registry import SINK_TYPES

    table = error.errors(include_url=False)[0]["input"]
    names = [str(name) for name in table] if isinstance(table, dict) else []
    there_are = f"there are: {', '.join(SINK_TYPES)}"
    if "type" in names:
        close = did_you_mean(str(table["type"]), SINK_TYPES)
        return f".type: {f'did you mean {close}? ' if close else ''}{there_are}"
    known = {name for kind in SINK_TYPES for name in _fields_at(place[:2], kind)}
    if close := did_you_mean("type", [name for name in names if name not in known]):
        return f": there is no setting {close}; did you mean type? ({there_are})"
    return f".type: {there_are}"


def _dotted(place: SettingPlace) -> str:
    """``api.url``; of a list of tables: ``step 2 of transforms: rename``."""
    for name, one in _LISTS.items():
        if name in place[:-1] and (at := place.index(name) + 1) in (1, 3):
            inner = f": {'.'.join(place[at + 1 :])}" if place[at + 1 :] else ""
            return f"{one} {int(place[at]) + 1} of {'.'.join(place[:at])}{inner}"
    return ".".join(place)


def _origin_of(place: SettingPlace, origins: Origins, file: str | None) -> str:
    """The file or variable to look into, with a colon; what was typed needs none."""
    for length in range(len(place), 0, -1):
        if origin := origins.get(place[:length]):
            return f"{origin.name}: " if origin.name else ""
    return f"{file}: " if file else ""


def _suggestion(place: SettingPlace, kind: str) -> str:
    if place in _MOVED:
        return f": it is {_MOVED[place]} now"
    fields = _fields_at(place[:-1], kind)
    return suggestion(place[-1], fields)


def _fields_at(place: SettingPlace, kind: str) -> list[str]:
    """The names that the table at ``place`` may hold. ``kind``: of the sink, where it is one."""
    from ingestd.sinks.registry import SINK_TYPES

    model: type[Section] = SINK_TYPES[kind] if kind else Settings
    parts = iter(place[2:] if kind else place)
    for part in parts:
        info = next(info for name, info in model.model_fields.items() if (info.alias or name) == part)
        inner = _model_of(info.annotation)
        assert inner is not None
        model = inner
        if typing.get_origin(info.annotation) in (dict, list):
            next(parts, None)  # the name that the user chose, or its place
    return [info.alias or name for name, info in model.model_fields.items()]
