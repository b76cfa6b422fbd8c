"""The audit file, opened as the settings say. Called by what writes into it."""

import os
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from ingestd.config.sections import AuditConfig
from ingestd.telemetry.audit_file import AuditLog, last_hash
from ingestd.telemetry.audit_key import AuditKey, open_key, read_key

FILE_NAME, KEY_NAME = "audit.jsonl", "audit.key"


def open_audit(audit: AuditConfig, directory: Path, *, rotates: bool = True) -> AuditLog:
    """Close it. ``directory``: of the state. ``rotates``: False for a command beside a service, which
    rotates. Raises UserError."""
    path = Path(audit.file) if audit.file else directory / FILE_NAME
    key = open_key(_key_path(audit, directory), last_hash=partial(last_hash, path))
    return AuditLog(path, max_bytes=audit.max_bytes if rotates else sys.maxsize, keep=audit.keep, key=key)


def find_keys(audit: AuditConfig, directory: Path) -> list[AuditKey]:
    """Those that a log may be made with; none is made. Raises UserError for one that cannot be read."""
    paths = [Path(audit.key_file)] if audit.key_file else []
    if os.path.lexists(own := directory / KEY_NAME):
        paths.append(own)
    return list(dict.fromkeys(read_key(path) for path in paths))


def _key_path(audit: AuditConfig, directory: Path) -> Path:
    """A key that is kept elsewhere is linked in the state directory: commands that are given no configuration
    find it there."""
    own = directory / KEY_NAME
    if not audit.key_file:
        return own
    path = Path(audit.key_file).absolute()
    with suppress(FileExistsError):
        directory.mkdir(parents=True, exist_ok=True)
        own.symlink_to(path)
    return path
