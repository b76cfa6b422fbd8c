"""Where it is noted what a person did to a spool on JetStream by a command: in the audit file of the
supervisor, or where there is none in a stream of the spool.
"""

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from ingestd.app.cluster.spool import on_nats
from ingestd.cluster import audit_stream
from ingestd.cluster.names import StreamNames
from ingestd.config import Settings, find_state_directory
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.telemetry.audit_entry import Audit, AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from ingestd.telemetry.audit_rotation import AuditLine, open_parts
from ingestd.wiring.factories import FILE_NAME, open_audit


@contextmanager
def noting(settings: Settings) -> Iterator[Audit]:
    """What is noted stands there when it ends, also where the command fails then. Raises UserError."""
    if settings.spool.workers:
        log = open_audit(settings.audit, find_state_directory(settings), rotates=False)
        try:
            yield log
        finally:
            log.close()
        return
    with TemporaryDirectory(prefix="ingestd-audit-") as directory:
        path, who = Path(directory) / FILE_NAME, person()
        lines = AuditLog(path)

        def note(entry: AuditEntry, /, **fields: str | int | float | bool | None) -> None:
            lines(entry, **{name: value for name, value in fields.items() if value is not None}, who=who)

        try:
            yield note
        finally:
            lines.close()
            _store(settings, path)


def person() -> str:
    """Who runs this command, and where; nobody has proved it."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in a container
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def _store(settings: Settings, path: Path) -> None:
    """Without the chain: each command would begin one of its own."""
    with open_parts(path) as parts:
        found = [msgspec.json.decode(line.data) for part in parts for line in part.lines()]
    if not found:
        return
    lines = [msgspec.json.encode({name: one[name] for name in one if name != "chain"}) for one in found]
    names = StreamNames(settings.spool.name)
    try:
        on_nats(
            settings,
            lambda connection: audit_stream.store(connection, names, lines, replicas=settings.spool.replicas),
        )
    except UserError as error:
        raise UserError(f"it is done, but could not be noted in the stream {names.audit}: {error}") from None


def lines_of(settings: Settings) -> list[AuditLine]:
    """What was noted in the stream, oldest first. Raises UserError."""
    names = StreamNames(settings.spool.name)
    found = on_nats(settings, lambda connection: audit_stream.read(connection, names, SystemClock()))
    return [AuditLine(names.audit, number, data, True, False) for number, data in enumerate(found, 1)]
