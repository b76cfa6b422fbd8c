"""One line of the log: what it holds, and how it reads as JSON and as text. Used by ``log.py``."""

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

from ingestd.core.text import printable
from ingestd.core.units import rfc3339

Field = str | int | float | bool | None


class LogLine(NamedTuple):
    """Nothing in it is secret any more. ``at``: seconds since the epoch. ``exception``: a traceback."""

    at: float
    level: str
    logger: str
    message: str
    fields: Mapping[str, Field]
    exception: str


_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def format_json(line: LogLine) -> str:
    """One JSON object (RFC 8259) in ASCII, with the time as RFC 3339 in UTC."""
    values: dict[str, Field] = {
        "time": rfc3339(line.at, "milliseconds"),
        "level": line.level,
        "logger": line.logger,
        "message": line.message,
    }
    for name, value in line.fields.items():
        finite = not isinstance(value, float) or math.isfinite(value)
        values.setdefault(name, value if finite else str(value))
    if line.exception:
        values["exception"] = line.exception
    return _encode(values).replace("\x7f", "\\u007f")


def format_text(line: LogLine) -> str:
    """One line for a person; a traceback follows in lines of its own, each marked as part of it."""
    parts = [rfc3339(line.at, "milliseconds"), f"{line.level.upper():7}", printable(line.message)]
    parts += [f"{name}={_text_of(value)}" for name, value in line.fields.items()]
    text = " ".join(parts)
    for row in line.exception.splitlines():
        text += f"\n    | {printable(row)}"
    return text


def _text_of(value: Field) -> str:
    text = str(value)
    plain = text.isprintable() and text and not any(c in text for c in " =\"'")
    return text if plain else printable(json.dumps(text, ensure_ascii=False))
