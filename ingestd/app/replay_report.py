"""What ``ingestd replay --report`` writes."""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict

from ingestd.app.replay import Replay
from ingestd.core.errors import UserError
from ingestd.core.redaction import redact_tree


class ReplayOutcome(msgspec.Struct):
    """How a replay ended. ``damage``: of its sources; ``with_letters``: the state directories that have its
    dead letters; ``state_is_kept``: the same command goes on where it ended."""

    report: dict[str, Any]
    damage: Sequence[str]
    with_letters: Sequence[Path]
    state_is_kept: bool


def outcome_of(replay: Replay) -> ReplayOutcome:
    path = replay.pipeline.database.path
    return ReplayOutcome(make_report(replay), replay.damage, [path.parent], path.exists())


def make_report(replay: Replay) -> dict[str, Any]:
    """The ledgers, of all events and of each sink, and how it ended; ready for JSON."""
    ledger, seconds = replay.pipeline.ledger, replay.seconds
    keys = [watch.describe() for watch in replay.pipeline.watches]
    report = {
        "accepted": ledger.accepted,
        "delivered": ledger.delivered,
        "duplicate": ledger.duplicate,
        "rejected": ledger.rejected,
        "dead_lettered": ledger.dead_lettered,
        "in_flight": ledger.in_flight,
        "batches": ledger.batches,
        "requests": ledger.requests,
        "retries": ledger.retries,
        "bytes": ledger.bytes,
        "seconds": round(seconds, 3),
        "events_per_second": round(ledger.accepted / seconds, 1) if seconds > 0 else 0.0,
        "retried_delivered": ledger.retried_delivered,
        "retried_duplicate": ledger.retried_duplicate,
        "retried_failed": ledger.retried_failed,
        "retried_aside": ledger.retried_aside,
        "dead_letters_by_reason": {reason.value: count for reason, count in ledger.by_reason.items()},
        "unmatched_item_errors": ledger.unmatched_item_errors,
        "unmatched": ledger.unmatched,
        "dropped": ledger.dropped,
        **({"keys": keys} if keys else {}),
        "sinks": {
            runner.name: {**asdict(runner.ledger), "error": str(replay.lost.get(runner.name, "")) or None}
            for runner in replay.pipeline.runners
        },
        "sources": [
            {"path": s.name, "bytes_read": s.reader.bytes_read, "damage": s.reader.damage or None}
            for s in replay.sources
        ],
        "interrupted": replay.interrupted,
        "error": str(replay.error) if replay.error else None,
        "exit_code": replay.exit_code,
    }
    redacted: dict[str, Any] = redact_tree(report)
    return redacted


def write_report(path: str, report: dict[str, Any]) -> None:
    """Whole or not at all: a reader never sees half of it. Into a pipe, a device, or a link it is written as
    they are: nobody wants a file in the place of /dev/null. Raises UserError."""
    target, text = Path(path), json.dumps(report, indent=2) + "\n"
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if os.path.lexists(target) and not stat.S_ISREG(target.lstat().st_mode):
            target.write_text(text, encoding="utf-8")
            return
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the report {path}: {error.strerror}") from None
