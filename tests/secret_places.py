"""Every place of the configuration that holds a secret, found in its schema, with a marker in each."""

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ingestd.config.settings import Settings
from ingestd.core.section import Section
from ingestd.core.setting_types import SecretSetting, SecretStr, SettingField, parts
from ingestd.sinks.registry import SINK_TYPES

STEP = "0"
"""In a path: the one table of a list of tables."""


class Place(NamedTuple):
    """``kind``: secret, headers, url, secret_url, file; empty: it is said to be public."""

    model: str
    path: tuple[str, ...]
    kind: str

    @property
    def name(self) -> str:
        return f"{self.model}.{self.path[-1]}"


def places() -> list[Place]:
    found = [place for place in _places(Settings, ()) if place.path != ("sinks",)]
    for kind, model in SINK_TYPES.items():
        found += _places(model, ("sinks", kind.replace("_", "-")))
    return found


def _places(model: type[Section], above: tuple[str, ...]) -> Iterator[Place]:
    for field, info in model.model_fields.items():
        path = (*above, info.alias or field)
        inner = _section_of(info.annotation)
        if inner and typing.get_origin(info.annotation) is list:
            yield from _places(inner, (*path, STEP))
        elif inner and _is_table(info.annotation):
            yield from _places(inner, (*path, "n"))
        elif inner:
            yield from _places(inner, path)
        else:
            yield Place(_owner(model, field).__name__, path, _kind(info))


def _section_of(annotation: Any) -> type[Section] | None:
    if typing.get_origin(annotation) in (dict, list):
        annotation, _ = parts(typing.get_args(annotation)[-1])
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _is_table(annotation: Any) -> bool:
    return typing.get_origin(annotation) is dict


def _owner(model: type[Section], field: str) -> type[Section]:
    """The class that says so: a setting of all sinks is looked at once."""
    bases = [one for one in model.__mro__ if isinstance(one, type) and issubclass(one, Section)]
    return next(one for one in reversed(bases) if field in one.model_fields)


def _kind(info: SettingField) -> str:
    if info.annotation is SecretStr:
        return "secret"
    if _is_table(info.annotation) and "SecretStr" in repr(info.annotation):
        return "headers"
    return next((one.what for one in info.metadata if isinstance(one, SecretSetting)), "")


class Marked:
    """A configuration with a marker wherever there is a secret. ``markers``: name of the place -> marker."""

    def __init__(self, directory: Path) -> None:
        self.markers: dict[str, str] = {}
        self.tree: dict[str, Any] = {}
        self._directory = directory
        for kind in SINK_TYPES:
            self._put(("sinks", kind.replace("_", "-"), "type"), kind)
        for place in places():
            if value := self._value(place):
                self._put(place.path, value)
        self._put(("sinks", "journey-events", "configuration_id"), "c")
        for field in ("stream", "user", "cert_file"):
            self._put(("ingest", "nats", "n", field), "S")
        for field in ("user", "cert_file"):
            self._put(("spool", field), "S")
        for field in ("topics", "user", "cert_file"):
            self._put(("ingest", "kafka", "n", field), "S")
        self._put(("ingest", "kafka", "n", "oauth_client_id"), "S")
        self._put(("ingest", "kafka", "n", "oauth_token_url"), "http://127.0.0.1:9/token")
        self._put(("ingest", "tls", "cert_file"), str(directory / "cert.pem"))
        self._put(("ingest", "listen"), "127.0.0.1:0")
        self._put(("admin", "listen"), "127.0.0.1:0")
        self._put(("state", "dir"), str(directory / "state"))
        for table in (self.tree, *self.tree["sinks"].values()):
            if steps := table.pop("transforms", None):
                table["transforms"] = [{"redact": ["x"], name: one} for name, one in steps[STEP].items()]

    def marker(self, *name: str, slash: str = "/+") -> str:
        """No two have a part in common that is long enough to be taken for the other."""
        number = len(self.markers)
        made = f"S{number:03}EKRIT{chr(97 + number % 26) * 6}{slash}{number:03}Q9"
        self.markers[".".join(name)] = made
        return made

    def _value(self, place: Place) -> Any:
        name = ".".join(place.path)
        if place.kind == "secret":
            return self.marker(name)
        if place.kind == "headers":
            return {"X-Odd": self.marker(name, "bare"), "X-Word": f"Token {self.marker(name, 'behind')}"}
        if place.kind in ("url", "secret_url"):
            user, password, query = (self.marker(name, part) for part in ("user", "password", "query"))
            last = "{id}" if place.path[-2] == "confirm" else "p"
            if place.kind == "secret_url":
                last = self.marker(name, "path", slash="")
            safe = password.replace("/", "%2F")
            return f"http://{user.replace('/', '%2F')}:{safe}@127.0.0.1:9/{last}?key={query}&a=1"
        if place.kind == "file":
            path = self._directory / f"{name}.txt"
            path.write_text(self.marker(name) + "\n")
            return str(path)
        return None

    def _put(self, path: tuple[str, ...], value: Any) -> None:
        table = self.tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = value
