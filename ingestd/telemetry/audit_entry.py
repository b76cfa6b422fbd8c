"""The entries of the audit log, and the contract of its writers."""

from enum import StrEnum
from typing import Protocol, Self


class AuditEntry(StrEnum):
    """``meaning``: in words, for docs/reference/audit.md. ``is_ours``: besides numbers it tells of a sink and
    the id of a batch only, and so of nothing that came from outside."""

    meaning: str
    is_ours: bool

    def __new__(cls, name: str, meaning: str = "", is_ours: bool = False) -> Self:
        entry = str.__new__(cls, name)
        entry._value_ = name
        entry.meaning, entry.is_ours = meaning, is_ours
        return entry

    RUN_STARTED = "RUN_STARTED", "A replay or the service began"
    RUN_FINISHED = "RUN_FINISHED", "It ended; with its counts"
    PROCESS_STARTED = (
        "PROCESS_STARTED",
        "A supervisor (`spool.workers`) started one of its processes, or started it again",
    )
    PROCESS_ENDED = "PROCESS_ENDED", "One of them ended by itself; how, and when it is started again"
    CONFIGURATION_READ = (
        "CONFIGURATION_READ",
        "A supervisor read its configuration again (SIGHUP); what has changed, or why it stays as it was",
    )
    BATCH_SUBMITTED = "BATCH_SUBMITTED", "A batch is sent for the first time", True
    BATCH_ACCEPTED = "BATCH_ACCEPTED", "An API accepted events and has yet to confirm them", True
    BATCH_DELIVERED = "BATCH_DELIVERED", "Events were delivered; with confirmation, one line an event", True
    BATCH_RETRIED = "BATCH_RETRIED", "A batch was sent again; with the answer"
    BATCH_SPLIT = "BATCH_SPLIT", "A refused or too large batch became several"
    INGESTION_REJECTED = "INGESTION_REJECTED", "Events failed their schema or could not be read"
    DEAD_LETTERED = "DEAD_LETTERED", "Events became dead letters; with the reason and the answer"
    DROPPED = "DROPPED", "The transforms of a sink left events out; how many"
    RETRIED_DELIVERED = "RETRIED_DELIVERED", "Dead letters were sent again and delivered", True
    RETRIED_DUPLICATE = (
        "RETRIED_DUPLICATE",
        "Dead letters were not sent again, because their events were accepted again",
    )
    LETTERS_PURGED = "LETTERS_PURGED", "Somebody deleted dead letters"
    LETTERS_PARKED = "LETTERS_PARKED", "Somebody parked dead letters: they wait for a person"
    LETTERS_REQUESTED = (
        "LETTERS_REQUESTED",
        "Somebody had dead letters sent again, from the console, or by workers of a spool on NATS",
    )
    SINK_PROBED = "SINK_PROBED", "Somebody had a sink tried at once"
    LETTER_EDITED = "LETTER_EDITED", "Somebody corrected a dead letter"
    TOKEN_REFRESHED = "TOKEN_REFRESHED", "A new access token was obtained"
    SOURCE_GAP = "SOURCE_GAP", "A source did not hear what cannot be read again; from when to when"
    STATE_RESTORED = "STATE_RESTORED", "The state directory is a copy that was put back; what was in it"
    STATE_MENDED = (
        "STATE_MENDED",
        "The state file was damaged, and made again of what could be read; what is gone",
    )
    SINK_FORGOTTEN = "SINK_FORGOTTEN", "Somebody dropped what waited for a sink"
    AUDIT_RESUMED = (
        "AUDIT_RESUMED",
        "Lines can be written again after a full disk; since when, and how many are missing",
    )
    LANE_CHANGED = (
        "LANE_CHANGED",
        "A sink opened its circuit breaker, paused or works again, or the reason changed; with the answer",
    )
    READINESS_CHANGED = (
        "READINESS_CHANGED",
        "Producers are told to wait, or no longer, or the reason changed",
    )
    SINK_PARKED = "SINK_PARKED", "Somebody, or its bound, set a sink aside; or it is back"
    PRODUCER_REFUSED = "PRODUCER_REFUSED", "Requests were refused: whose, from where, why, and how many"
    DATA_LAKE_SYNC = "DATA_LAKE_SYNC", "A lake wrote a file, or cannot"

    # the remote control plane
    TARGET_CREATED = "TARGET_CREATED", "A target was created"
    TARGET_UPDATED = "TARGET_UPDATED", "A target was changed"
    TARGET_DELETED = "TARGET_DELETED", "A target was deleted"
    TARGET_VERIFIED = "TARGET_VERIFIED", "The API verified a target"
    TARGET_VERIFICATION_FAILED = "TARGET_VERIFICATION_FAILED", "It did not, or not in time"
    TARGET_FAILED = "TARGET_FAILED", "A step of a target failed"
    WEBHOOK_SYNCED = "WEBHOOK_SYNCED", "A target's gateway took the news of a change"
    WEBHOOK_FAILED = "WEBHOOK_FAILED", "It did not"
    HEALTH_CHECK_TRIGGERED = "HEALTH_CHECK_TRIGGERED", "The API was asked to look at a target's endpoint"
    DESTINATION_CREATED = "DESTINATION_CREATED", "A destination was created"
    DESTINATION_UPDATED = "DESTINATION_UPDATED", "A destination was changed"
    DESTINATION_DELETED = "DESTINATION_DELETED", "A destination was deleted"
    DESTINATION_VERIFIED = "DESTINATION_VERIFIED", "The API verified a destination"
    DESTINATION_VERIFICATION_FAILED = "DESTINATION_VERIFICATION_FAILED", "It did not, or not in time"
    DESTINATION_FAILED = "DESTINATION_FAILED", "A step of a destination failed"
    SUBSCRIPTION_CREATED = "SUBSCRIPTION_CREATED", "A subscription was created"
    SUBSCRIPTION_UPDATED = "SUBSCRIPTION_UPDATED", "A subscription was changed"
    SUBSCRIPTION_DELETED = "SUBSCRIPTION_DELETED", "A subscription was deleted"
    SUBSCRIPTION_FAILED = "SUBSCRIPTION_FAILED", "A step of a subscription failed"
    CALLBACK_QUEUED = "CALLBACK_QUEUED", "A subscription's Lambda function took the news of a change"
    CALLBACK_FAILED = "CALLBACK_FAILED", "It did not"
    INTEGRATION_CREATED = "INTEGRATION_CREATED", "An integration was created"
    INTEGRATION_UPDATED = "INTEGRATION_UPDATED", "An integration was changed"
    INTEGRATION_DELETED = "INTEGRATION_DELETED", "An integration was deleted"
    INTEGRATION_ACTIVATED = "INTEGRATION_ACTIVATED", "An integration became active"
    INTEGRATION_FAILED = "INTEGRATION_FAILED", "A step of an integration failed"
    TRIGGER_CREATED = "TRIGGER_CREATED", "A trigger was created"
    TRIGGER_UPDATED = "TRIGGER_UPDATED", "A trigger was changed"
    TRIGGER_DELETED = "TRIGGER_DELETED", "A trigger was deleted"
    TRIGGER_FAILED = "TRIGGER_FAILED", "A step of a trigger failed"
    RESOURCE_CREATED = "RESOURCE_CREATED", "A resource of another kind was created; with its kind and name"
    RESOURCE_UPDATED = "RESOURCE_UPDATED", "It was changed"
    RESOURCE_DELETED = "RESOURCE_DELETED", "It was deleted"
    PLAN = "PLAN", "A plan was made; with its counts"
    APPLY = "APPLY", "An apply ended; with its counts"


class Audit(Protocol):
    def __call__(self, entry: AuditEntry, /, **fields: str | int | float | bool | None) -> None:
        """Write one line. Never raises, never blocks for long, never holds a secret."""
        ...


def no_audit(entry: AuditEntry, /, **fields: str | int | float | bool | None) -> None:
    """Writes nothing."""
