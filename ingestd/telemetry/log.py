"""The log of the service: JSON lines in a container, text on a terminal. Configured by the commands.

``warning`` and its sisters take a sentence and fields. What libraries log comes out the same way.
"""

import logging
import math
import os
import select
import sys
import time
import traceback
from contextlib import suppress
from typing import Literal, TextIO

from ingestd.core.redaction import MASK, names_a_secret, redact
from ingestd.core.text import without_json
from ingestd.telemetry.log_line import Field, LogLine, format_json, format_text
from ingestd.telemetry.repeats import Repeats, template

LogFormat = Literal["auto", "json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]

MAX_CHARS = 2_000
"""Of a message, and of a field."""
MAX_TRACEBACK_CHARS = 8_000
MAX_FIELDS = 50
MAX_RAW_CHARS = 100_000
"""More of a message is not even looked at."""
WRITE_TIMEOUT_MS = 20

_LOGGER = logging.getLogger("ingestd")


def debug(message: str, /, **fields: Field) -> None:
    _LOGGER.debug(message, extra={"fields": fields})


def info(message: str, /, **fields: Field) -> None:
    _LOGGER.info(message, extra={"fields": fields})


def warning(message: str, /, **fields: Field) -> None:
    _LOGGER.warning(message, extra={"fields": fields})


def error(message: str, /, **fields: Field) -> None:
    _LOGGER.error(message, extra={"fields": fields})


def change(message: str, /, *, well: bool, **fields: Field) -> None:
    """Something works again (``well``), or does not."""
    (info if well else warning)(message, **fields)


def configure(line_format: LogFormat, level: LogLevel, *, stream: TextIO | None = None) -> None:
    """Log to ``stream`` (standard error) from now on; ``auto`` is text on a terminal, else JSON.

    Called again it replaces what was.
    """
    stream = sys.stderr if stream is None else stream
    root = logging.getLogger()
    for handler in _handlers():
        root.removeHandler(handler)
        handler.close()
    text = line_format == "text" or (line_format == "auto" and _is_terminal(stream))
    root.addHandler(LineHandler(stream, text=text))
    set_level(level)


def set_level(level: LogLevel) -> None:
    """Also while running. Libraries are held at warnings and worse: they would log every request."""
    _LOGGER.setLevel(level.upper())
    logging.getLogger().setLevel(max(logging.WARNING, _LOGGER.level))


def flush() -> None:
    """Write what is due of repeated messages: to be called now and then, for a log that went quiet."""
    for handler in _handlers():
        handler.flush()


def _handlers() -> list["LineHandler"]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, LineHandler)]


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(OSError, ValueError):  # it may be closed
        return stream is not None and stream.isatty()
    return False


class LineHandler(logging.Handler):
    """Masks, cuts, holds back repeats and writes. Never raises, never waits for a reader of the log."""

    def __init__(self, stream: TextIO | None, *, text: bool) -> None:
        super().__init__()
        self._writer = LineWriter(stream)
        self._format = format_text if text else format_json
        self._repeats = Repeats[LogLine]()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = _line(record)
            now = time.monotonic()
            self._write_repeats(now)
            text = record.msg if record.args and isinstance(record.msg, str) else line.message
            if self._repeats.admit(f"{line.logger} {line.level} {template(text)}", line, now=now):
                self._write(line)
        except Exception:  # a line of the log must not end what it tells about
            self._lost += 1

    def flush(self) -> None:
        self._settle(time.monotonic())

    def close(self) -> None:
        self._settle(math.inf)
        super().close()

    def _settle(self, now: float) -> None:
        self.acquire()
        try:
            self._write_repeats(now)
        finally:
            self.release()

    def _write_repeats(self, now: float) -> None:
        for last, held, others in self._repeats.ended(now):
            summary = f"… {held} other messages, the last: " if others else f"… repeated {held} times: "
            fields = {**last.fields, "repeated": held}
            self._write(last._replace(message=cut(summary + last.message), fields=fields, exception=""))

    def _write(self, line: LogLine) -> None:
        if self._lost:
            line = line._replace(fields={**line.fields, "lines_lost": self._lost})
        self._lost = 0 if self._writer.write(self._format(line) + "\n") else self._lost + 1


class LineWriter:
    """Puts lines where they belong if that can be done at once; if not, they are lost.

    Straight to the descriptor: what a full disk leaves in the stream's own buffer would fail again at
    exit, and make the status 120. And without waiting for longer than WRITE_TIMEOUT_MS, once: a log collector
    that stopped reading would otherwise stop the event loop.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._descriptor: int | None = None
        self._stuck = False
        self._torn = False
        if stream is not None:
            with suppress(OSError, ValueError, AttributeError):
                self._descriptor = stream.fileno()

    def write(self, line: str) -> bool:
        """Whether all of it was written."""
        try:
            if self._descriptor is not None:
                return self._put(self._descriptor, line.encode("utf-8", "backslashreplace"))
            if self._stream is not None:
                self._stream.write(line)
                self._stream.flush()
        except (OSError, ValueError):  # closed, nobody reads, disk full
            return False
        return True

    def _put(self, descriptor: int, data: bytes) -> bool:
        if self._torn:
            data = b"\n" + data
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        rest = memoryview(data)
        try:
            while rest:
                self._stuck = not poll.poll(0 if self._stuck else WRITE_TIMEOUT_MS)
                if self._stuck:
                    return False
                # what is writable takes this much without blocking, and no more is promised
                rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]
        finally:
            if len(rest) < len(data):
                self._torn = bool(rest)
        return True


def _line(record: logging.LogRecord) -> LogLine:
    fields: dict[str, object] = getattr(record, "fields", None) or {}
    return LogLine(
        at=record.created,
        level=record.levelname.lower(),
        logger=record.name,
        message=_redacted(_message(record)),
        fields={name: _clean(name, value) for name, value in list(fields.items())[:MAX_FIELDS]},
        exception=_exception(record),
    )


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit their template: still worth a line
        return f"{record.msg} {record.args!r}"


def _exception(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    text = "".join(traceback.format_exception(*record.exc_info, limit=-20))
    text = redact(text[-MAX_RAW_CHARS:])
    return text if len(text) <= MAX_TRACEBACK_CHARS else "…" + text[-MAX_TRACEBACK_CHARS:]


def _clean(name: str, value: object) -> Field:
    if names_a_secret(name):
        return MASK
    if value is None or isinstance(value, bool | int | float):
        return value
    return _redacted(str(value))


def _redacted(text: str) -> str:
    """An API's answer in words: JSON within JSON is for nobody."""
    return cut(without_json(redact(text[:MAX_RAW_CHARS])))


def cut(text: str) -> str:
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"
