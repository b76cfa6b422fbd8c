"""What a bug report needs, without secrets and payloads. For ``ingestd doctor --bundle``; changes nothing.

Every text goes through ``core.redaction``. What APIs answered is reduced to its ``shape``, as in groups of
letters: without JSON, values in quotes, numbers and ids, which may be of an event.
"""

import json
import os
import re
import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from ingestd.app import audit_lines
from ingestd.app.checks.finding import Finding
from ingestd.app.checks.installation import extras, versions
from ingestd.config import Settings, find_login, load_with_origins, state_directory
from ingestd.config.loading import Overrides
from ingestd.config.secret_settings import hide_files
from ingestd.config.show import as_json
from ingestd.core.address import parse_listen, write_listen
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.redaction import redact_tree
from ingestd.core.text import shape
from ingestd.core.units import rfc3339
from ingestd.store.connection import FILE_NAME, StoreFailed, connect_without_trace
from ingestd.store.state_format import look_at
from ingestd.transport.client import MAX_BODY_BYTES, Client
from ingestd.wiring.factories import FILE_NAME as AUDIT_NAME

LAST_LINES = 50
MAX_SEARCHED = 5_000
"""Lines of an audit file or a log that are looked through, from its end."""
STATUS_TIMEOUT_S = 2.0
_FAILURES = {"BATCH_RETRIED", "BATCH_SPLIT", "INGESTION_REJECTED", "DEAD_LETTERED", "LANE_CHANGED"}
_FAILURES |= {"AUDIT_RESUMED", "SINK_FORGOTTEN", "RUN_STARTED", "RUN_FINISHED"}
_SEVERE = re.compile(r"\b(warning|error|critical)\b", re.IGNORECASE)
_PLAIN = ("time", "event", "sink", "request_id", "state", "level", "logger")
"""Fields that are names, and stay."""

BugReport = dict[str, Any]


async def collect(
    findings: Iterable[Finding],
    file: str | None,
    overrides: Overrides,
    *,
    log_file: str | None,
    clock: Clock,
    environ: Mapping[str, str] | None = None,
) -> BugReport:
    """``log_file``: where the service's standard error was kept. Raises UserError if that cannot be read."""
    report: BugReport = {
        "written": rfc3339(clock.wall()),
        "versions": versions(),
        "extras": extras(),
        "checks": [finding._asdict() for finding in findings],
        "log": None if log_file is None else _last_lines_of_log(log_file),
    }
    try:
        settings, origins = load_with_origins(file, overrides, environ)
    except UserError as error:
        report["configuration"] = {"error": str(error)}
        return _redacted(report)
    hide_files(settings)  # also of what no check had reason to read
    directory = _directory(settings, environ)
    report["configuration"] = as_json(settings, origins)
    report["state"] = _state(directory)
    report["audit"] = _audit(Path(settings.audit.file) if settings.audit.file else directory / AUDIT_NAME)
    report["status"] = await _status(settings)
    return _redacted(report)


def write(path: Path, report: BugReport) -> None:
    """For its owner only, and over no other file. Raises UserError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UserError(f"cannot write the bug report {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        json.dump(report, opened, indent=2, default=str)
        opened.write("\n")


def _directory(settings: Settings, environ: Mapping[str, str] | None) -> Path:
    try:
        login = find_login(settings)
    except UserError:
        login = None
    return state_directory(settings, login, environ)


def _state(directory: Path) -> BugReport:
    """Sizes of its files and, of a state file of this format, how many letters there are and why."""
    files = sorted(directory.iterdir()) if directory.is_dir() else []
    found: BugReport = {
        "directory": str(directory),
        "files": {one.name: one.stat().st_size for one in files if one.is_file()},
    }
    path = directory / FILE_NAME
    if not path.exists():
        return found
    try:
        found["format"] = look_at(path)
        with closing(connect_without_trace(path)) as connection:
            rows = connection.execute(
                "SELECT sink, state, reason, count(*) FROM letters GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 200"
            )
            names = ("sink", "state", "reason", "count")
            found["letters"] = [dict(zip(names, row, strict=True)) for row in rows]
    except (StoreFailed, sqlite3.Error) as error:
        found["error"] = str(error)
    return found


def _audit(path: Path) -> BugReport:
    """The last lines that tell of trouble."""
    found: deque[dict[str, Any]] = deque(maxlen=LAST_LINES)
    try:
        for _, entry in audit_lines.chosen(audit_lines.last_lines(path, MAX_SEARCHED, follow=False)):
            name = str(entry.get("event", "")) if entry else ""
            if entry and (name in _FAILURES or name.endswith("_FAILED")):
                found.append(_shapes({key: value for key, value in entry.items() if key != "chain"}))
    except (UserError, OSError) as error:
        return {"file": str(path), "error": str(error)}
    return {"file": str(path), "lines": list(found)}


def _last_lines_of_log(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as opened:
            last = deque(opened, MAX_SEARCHED)
    except OSError as error:
        raise UserError(f"cannot read the log {path}: {error.strerror}") from None
    return [_shape_of_line(line) for line in last if _SEVERE.search(line)][-LAST_LINES:]


def _shape_of_line(line: str) -> str:
    """A log in JSON is JSON itself: in there the values are looked at. Of text its beginning stays."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if isinstance(entry, dict):
        return json.dumps(_shapes(entry))
    severe = _SEVERE.search(line)
    end = severe.end() if severe else 0
    return f"{line[:end]} {shape(line[end:].strip())}"


def _shapes(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: shape(value) if isinstance(value, str) and name not in _PLAIN else value
        for name, value in fields.items()
    }


async def _status(settings: Settings) -> BugReport:
    """``/v1/status`` of a service that runs with these settings, if there is one."""
    host, port = parse_listen(settings.admin.listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - asked there, not bound
    url = f"http://{write_listen(host, port)}/v1/status"
    if not port:
        return {"url": url, "error": "admin.listen has no fixed port"}
    async with Client(timeout_s=STATUS_TIMEOUT_S) as client:
        answer = await client.request("GET", url)
    found = answer.json_object(max_bytes=MAX_BODY_BYTES)
    if answer.status != 200 or not found:
        return {"url": url, "error": answer.error or f"it answers {answer.status}"}
    for lane in found.get("lanes") or []:
        if isinstance(lane, dict):
            lane["why"] = shape(lane.get("why") or "") or None
    return {"url": url, "answer": found}


def _redacted(report: BugReport) -> BugReport:
    redacted: BugReport = redact_tree(report)
    return redacted
