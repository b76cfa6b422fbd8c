"""Lines of the audit file: where it is, which of them are asked for, how they look. For ``audit.py``."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ingestd.app.state_place import ask_for_part, only_directory
from ingestd.config import Settings, find_state_directory, load, state_base
from ingestd.config.sections import AuditConfig
from ingestd.core import units
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.core.text import printable
from ingestd.telemetry import audit_rotation, audit_verification
from ingestd.telemetry.audit_chain import read_key
from ingestd.telemetry.audit_rotation import AuditLine, open_parts
from ingestd.telemetry.audit_verification import AuditFindings
from ingestd.wiring.factories import FILE_NAME, find_keys

MAX_GARBAGE_CHARS = 200
_PLAIN = re.compile(r"[\w.:/@%+,-]+")
_COLUMN = 24

Fields = dict[str, Any]


class LogPlace(NamedTuple):
    """``directory``: of the state, where its key is by default. ``named``: a person named the file itself: it
    may be an old one, or a copy."""

    path: Path
    audit: AuditConfig
    directory: Path
    named: bool = False


def find_log(file: str | None, state_dir: str | None, config_file: str | None) -> LogPlace:
    """As named, as configured, or the only one there is. Raises UserError."""
    if file and state_dir:
        raise UserError("Use either a file or --state-dir, not both.")
    if file and not config_file:
        return LogPlace(Path(file), AuditConfig(), Path(file).parent, named=True)
    settings = load(config_file, {("state", "dir"): state_dir})
    audit = settings.audit
    if file:
        directory = Path(settings.state.dir or Path(file).parent)
        return LogPlace(Path(file), audit, directory, named=True)
    directory = _directory(settings, config_file)
    path = Path(audit.file) if audit.file and not state_dir else directory / FILE_NAME
    if not path.exists():
        ask_for_part(directory)
    return LogPlace(path, audit, directory)


def in_spool(file: str | None, state_dir: str | None, config_file: str | None) -> list[AuditLine] | None:
    """What persons did by commands to a spool on NATS whose edges and workers have no audit file; None: it is
    a file that is asked for. Raises UserError."""
    if file or state_dir or not (config_file or os.environ.get("INGESTD_SPOOL_KIND")):
        return None
    settings = load(config_file, {})
    if settings.spool.kind != "nats" or settings.spool.workers:
        return None
    from ingestd.app.cluster.audit import lines_of

    return lines_of(settings)


def _directory(settings: Settings, config_file: str | None) -> Path:
    """Where several could be meant, no matter: then the file itself was named."""
    try:
        if settings.state.dir or not config_file:
            return Path(settings.state.dir) if settings.state.dir else only_directory(FILE_NAME)
        return find_state_directory(settings)
    except UserError:
        if settings.audit.file:
            return state_base()
        raise


def verify(place: LogPlace, *, noted: str, key_files: Sequence[str]) -> AuditFindings:
    """Raises UserError."""
    keys = [*(read_key(Path(file)) for file in key_files), *find_keys(place.audit, place.directory)]
    must_have_key = bool(key_files) or bool(keys and not place.named)
    return audit_verification.verify(place.path, noted=noted, keys=keys, must_have_key=must_have_key)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which lines. ``since``: RFC 3339, as the file has it; "": all. ``text``: in lower case."""

    text: str = ""
    events: frozenset[str] = frozenset()
    since: str = ""
    sink: str = ""
    request_id: str = ""

    def takes(self, entry: Fields) -> bool:
        return (
            (not self.events or entry.get("event") in self.events)
            and (not self.since or str(entry.get("time", "")) >= self.since)
            and (not self.sink or entry.get("sink") == self.sink)
            and (not self.request_id or str(entry.get("request_id", "")).startswith(self.request_id))
            and (not self.text or self.text in show(entry).lower())
        )

    def takes_garbage(self, text: str) -> bool:
        """What is not JSON has no fields to ask for."""
        return not (self.events or self.since or self.sink or self.request_id) and self.text in text.lower()


def make_choice(
    *, text: str, events: Sequence[str], since: str | None, sink: str | None, request_id: str | None
) -> AuditFilter:
    """Raises UserError for an invalid duration."""
    try:
        seconds = units.seconds(since) if since else None
    except ValueError as error:
        raise UserError(f"--since: {error}") from None
    at = "" if seconds is None else units.rfc3339(SystemClock.wall() - seconds, "milliseconds")[:-1]
    names = frozenset(name.upper() for name in events)
    return AuditFilter(text.lower(), names, at, sink or "", request_id or "")


def all_lines(path: Path) -> Iterator[AuditLine]:
    with open_parts(path) as parts:
        for part in parts:
            yield from part.lines()


def last_lines(path: Path, count: int, *, follow: bool) -> Iterator[AuditLine]:
    """``follow``: and then what is added, without end."""
    with open_parts(path) as parts:
        begin = len(parts)
        while begin > 0 and (count > 0 or begin == len(parts)):
            begin -= 1
            count -= parts[begin].go_to_last(count)
        for part in parts[begin:]:
            yield from part.lines(unfinished=not (follow and part is parts[-1]))
        if follow:
            yield from audit_rotation.follow(path, parts[-1])


def chosen(
    lines: Iterator[AuditLine], choice: AuditFilter | None = None
) -> Iterator[tuple[bytes, Fields | None]]:
    """(the line, its fields) of those that ``choice`` takes; no fields: it is not a JSON object."""
    choice = choice or AuditFilter()
    for line in lines:
        entry = decode(line)
        if choice.takes_garbage(garbage(line.data)) if entry is None else choice.takes(entry):
            yield line.data, entry


def garbage(data: bytes) -> str:
    """The end of a line that is not JSON."""
    return data[-MAX_GARBAGE_CHARS:].decode("ascii", "backslashreplace")


def show_garbage(data: bytes) -> str:
    return f"{'?':{_COLUMN}}  {printable(garbage(data))}"


def decode(line: AuditLine) -> Fields | None:
    """None: it is not a JSON object."""
    try:
        entry = None if line.cut else _decode(line.data)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except ValueError:
        return json.loads(data)  # the log may hold half a surrogate pair, as an answer had it


def show(entry: Fields) -> str:
    """``time  EVENT  name=value name=value …``, in one line that drives no terminal."""
    time, event = str(entry.get("time", "")), str(entry.get("event", "?"))
    fields = [
        f"{name}={_show_value(value)}"
        for name, value in entry.items()
        if name not in ("time", "event", "chain") and value is not None
    ]
    return printable(
        f"{time.replace('+00:00', 'Z'):{_COLUMN}}  {event:{_COLUMN}}  {' '.join(fields)}"
    ).rstrip()


def _show_value(value: Any) -> str:
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)
