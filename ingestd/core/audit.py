"""The names of what the audit log tells, and the contract of whoever writes it."""

from enum import StrEnum
from typing import Protocol


class Entry(StrEnum):
    RUN_STARTED = "RUN_STARTED"
    RUN_FINISHED = "RUN_FINISHED"
    BATCH_SUBMITTED = "BATCH_SUBMITTED"
    BATCH_DELIVERED = "BATCH_DELIVERED"
    BATCH_RETRIED = "BATCH_RETRIED"
    BATCH_SPLIT = "BATCH_SPLIT"
    INGESTION_REJECTED = "INGESTION_REJECTED"
    DEAD_LETTERED = "DEAD_LETTERED"
    RETRIED_DELIVERED = "RETRIED_DELIVERED"
    LETTERS_PURGED = "LETTERS_PURGED"
    LETTER_EDITED = "LETTER_EDITED"
    TOKEN_REFRESHED = "TOKEN_REFRESHED"  # noqa: S105 - an event's name
    SINK_FORGOTTEN = "SINK_FORGOTTEN"
    LANE_CHANGED = "LANE_CHANGED"
    DATA_LAKE_SYNC = "DATA_LAKE_SYNC"


class Audit(Protocol):
    def __call__(self, entry: Entry, /, **fields: str | int | float | bool | None) -> None:
        """Write one line. Never raises, never blocks for long, never holds a secret."""
        ...


def no_audit(entry: Entry, /, **fields: str | int | float | bool | None) -> None:
    """Where nobody wants to know."""
