"""What ``ingestd init`` has to know, and the file that comes of it."""

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ingestd.config import IngestConfig
from ingestd.config.commented import required_of, table_of, write_commented
from ingestd.config.loading import SettingPlace, check_places
from ingestd.core.errors import UserError
from ingestd.core.section import Section
from ingestd.sinks.registry import SINK_TYPES
from ingestd.sinks.settings import AwsConfig, HttpSinkConfig

REPLAY = "replay"
"""Events of files, once: no source of the service."""
NAME = "main"
"""Of a broker's source."""
Prompt = Callable[[str, Sequence[str], str | None], str]
"""Asks a person: words, what there is to choose from (empty: any text), a proposal. An empty text is one."""


class Answers:
    """What was chosen so far. On a terminal the rest is asked for; else it is what would be proposed."""

    def __init__(self, chosen: Mapping[SettingPlace, Any], prompt: Prompt | None) -> None:
        self.chosen = dict(chosen)
        self._prompt = prompt

    def choose(self, words: str, given: str | None, among: list[str], proposal: str) -> str:
        """``given``, what the person answers, or the proposal. Raises UserError for none of ``among``."""
        if given is not None and given not in among:
            raise UserError(f"{words}: there is no {given}; there are: {', '.join(among)}")
        if given is None and self._prompt:
            given = self._prompt(words, among, proposal)
        return given or proposal

    def ask(self, words: str, place: SettingPlace, flag: str, *, proposal: str | None = None) -> None:
        """A text that has to be there, unless there is a proposal; "" is none. Raises UserError: there is
        nobody to ask, and no proposal."""
        if place in self.chosen:
            return
        if self._prompt:
            value = self._prompt(words, (), proposal)
        elif proposal is None:
            raise UserError(f"{flag} is missing: {words}")
        else:
            value = proposal
        if value:
            self.chosen[place] = value


def parse_setting(text: str) -> tuple[SettingPlace, Any]:
    """``section.setting=VALUE`` -> its place and its value, of TOML where it is that. Raises UserError."""
    place, equals, value = text.partition("=")
    parts = tuple(part.strip() for part in place.split("."))
    if not equals or len(parts) < 2 or not all(parts):
        raise UserError(f"--set {text}: write it as section.setting=VALUE")
    try:
        return parts, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return parts, value


def choose_source(answers: Answers, given: str | None) -> str:
    brokers = {
        name: section
        for name, info in IngestConfig.model_fields.items()
        if name != "producers" and isinstance(section := table_of(info), type)
    }
    kind = answers.choose("Where events come from", given, ["http", REPLAY, *brokers], "http")
    if kind in brokers:
        _ask_required(answers, ("ingest", kind, NAME), brokers[kind])
    return kind


def choose_sink(answers: Answers, given: str | None) -> None:
    if given is None and any(place[0] == "sinks" and place[2:] == ("type",) for place in answers.chosen):
        return
    lanes = [kind for kind, section in SINK_TYPES.items() if issubclass(section, HttpSinkConfig)]
    kind = answers.choose("Where events go", given, sorted(lanes), "ingest_api")
    section, place = SINK_TYPES[kind], ("sinks", kind)
    answers.chosen = {(*place, "type"): kind, **answers.chosen}
    assert issubclass(section, HttpSinkConfig)
    own_url = (*place, "url") in answers.chosen
    if not (section.at_api or own_url or issubclass(section, AwsConfig)):
        answers.ask("URL that events go to", (*place, "url"), f"--set {'.'.join(place)}.url=…")
    _ask_required(answers, place, section)
    if section.at_api and not own_url:
        _ask_login(answers)


def _ask_login(answers: Answers) -> None:
    if ("api", "url") not in answers.chosen:
        answers.ask("Region of Genesys Cloud, as eu-central-1", ("api", "region"), "--region or --api")
    if answers.chosen.get(("api", "no_auth")):
        return
    for what, field in (("client id", "client_id_file"), ("client secret", "client_secret_file")):
        variable = f"GENESYS_{field.removesuffix('_file').upper()}"
        words = f"File of the {what} (empty: the variable {variable})"
        answers.ask(words, ("api", field), f"--{field.replace('_', '-')}", proposal="")


def _ask_required(answers: Answers, place: SettingPlace, section: type[Section]) -> None:
    for name, info in required_of(section).items():
        at = (*place, name)
        answers.ask(f"{'.'.join(at)}, {info.description}", at, f"--set {'.'.join(at)}=…")


def write(file: Path, chosen: Mapping[SettingPlace, Any], *, force: bool) -> None:
    """Nothing that does not load. Raises UserError."""
    check_places(chosen)
    text = write_commented(chosen)
    try:
        with open(file, "w" if force else "x", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise UserError(f"cannot write {file}: {os.strerror(error.errno or 0)}") from None
