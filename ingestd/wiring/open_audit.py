"""The audit file, opened as the settings say. Called by what writes into it."""

import sys
from pathlib import Path

from ingestd.config.sections import AuditConfig
from ingestd.telemetry.audit_file import AuditLog

FILE_NAME = "audit.jsonl"


def open_audit(audit: AuditConfig, directory: Path, *, rotates: bool = True) -> AuditLog:
    """Close it. ``directory``: of the state. ``rotates``: False for a command beside a service, which
    rotates. Raises UserError."""
    path = Path(audit.file) if audit.file else directory / FILE_NAME
    return AuditLog(path, max_bytes=audit.max_bytes if rotates else sys.maxsize, keep=audit.keep)
