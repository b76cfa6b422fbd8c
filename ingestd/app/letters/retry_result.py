"""What ``dlq retry`` did, for people and for machines."""

import json
from dataclasses import dataclass, field
from typing import Any

from ingestd.core.errors import UserError
from ingestd.core.redaction import redact
from ingestd.core.text import cut, printable
from ingestd.core.units import counted

_MOST_NAMED = 1_000
"""Most letters that are listed; there may be a million."""
_MOST_WORDS = 20
MOST_SHOWN = 10
"""Letters of which it is shown what is corrected."""
_MAX_VALUE = 60

_WHOLE = "under the same keys: such a request is sent as it was, or not at all"
_REKEYED = "under new keys: these requests are not whole any more"
_LEFT = (
    "without these they cannot be repeated under their keys. `ingestd dlq retry` sends them under new ones,"
    " and they may arrive twice"
)


def mates_left(count: int, *, dry_run: bool = False) -> str:
    """Of a purge, too."""
    wait = "would wait for a person then" if dry_run else "wait for a person now"
    return f"{count} other letters of the same requests, which may have been taken, {wait}: {_LEFT}"


@dataclass(slots=True)
class RetryResult:
    """``invalid``, ``nowhere``: id -> what is wrong with the event, or why no sink takes it; these were not
    sent, and the first of them are named. ``together``: letters that went along because their request may
    have been taken and must be repeated as it was, ``rekeyed``: those of them that go under new keys because
    that cannot be; ``risky``: those, chosen or not, that may arrive twice. ``left``: of a request that one
    was taken out of. ``marked``: for ``process``, which has the directory, to send. ``duplicate``: not sent,
    because their producers had sent them again. ``aside``: not sent, and they wait for a person now.
    ``unchanged``: the expression does nothing to them; ``preview``: what it changes in the first ones.
    ``later``: not settled when it ended; the next process sends them."""

    dry_run: bool = False
    selected: int = 0
    sent: int = 0
    delivered: int = 0
    duplicate: int = 0
    failed: int = 0
    aside: int = 0
    later: int = 0
    together: int = 0
    rekeyed: int = 0
    risky: int = 0
    left: int = 0
    marked: int = 0
    unchanged: int = 0
    preview: list[dict[str, Any]] = field(default_factory=list)
    process: str = ""
    spool: str = ""
    invalid: dict[int, str] = field(default_factory=dict)
    invalid_count: int = 0
    nowhere: dict[int, str] = field(default_factory=dict)
    nowhere_count: int = 0
    interrupted: bool = False
    error: UserError | None = None

    def refuse(self, number: int, why: str) -> None:
        """It is not a valid event."""
        self.invalid_count += 1
        if len(self.invalid) < _MOST_NAMED:
            self.invalid[number] = why

    def lead_nowhere(self, number: int, why: str) -> None:
        """No sink takes it."""
        self.nowhere_count += 1
        if len(self.nowhere) < _MOST_NAMED:
            self.nowhere[number] = why

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        if self.error:
            return self.error.exit_code
        return 3 if self.failed or self.aside or self.later or self.invalid or self.nowhere else 0

    def as_dict(self) -> dict[str, Any]:
        error = str(self.error) if self.error else None
        ends: tuple[str, ...] = (
            "dry_run",
            "selected",
            "sent",
            "delivered",
            "duplicate",
            "failed",
            "aside",
            "later",
        )
        if self.process or self.spool:  # what comes of them is not known yet
            ends = ("marked", "process" if self.process else "spool", "selected")
        names: tuple[str, ...] = (*ends, "together", "rekeyed", "risky", "left")
        names += ("invalid", "invalid_count", "nowhere", "nowhere_count", "interrupted")
        names += ("unchanged", "preview") if self.preview or self.unchanged else ()
        return {**{name: getattr(self, name) for name in names}, "error": error}

    def words(self) -> str:
        lines = [f"{number}: still not valid: {why}" for number, why in _first(self.invalid)]
        lines += [f"{number}: {why}" for number, why in _first(self.nowhere)]
        lines += [f"{one['id']}: {_changes(one['changes'])}" for one in self.preview if self.dry_run]
        lines.append(self._outcome())
        if self.unchanged:
            lines.append(f"{self.unchanged} are not changed by the expression, and stay as they are")
        if self.duplicate:
            lines.append(f"{self.duplicate} were not sent: their producers have sent these events again")
        if self.aside:
            lines.append(
                f"{self.aside} were not sent, and wait for a person now: `ingestd dlq list` says why"
            )
        if self.later:
            lines.append(f"{self.later} are not settled yet: the next process sends them")
        if whole := self.together - self.rekeyed:
            lines.append(f"{whole} letters of the same requests go along, {_WHOLE}")
        if self.rekeyed:
            lines.append(f"{self.rekeyed} letters of the same requests go along, {_REKEYED}")
        if self.risky:
            lines.append(
                f"{self.risky} are of requests that may have been taken, and are older than 24 hours or not"
                " whole any more: they may arrive twice"
            )
        if self.left:
            lines.append(mates_left(self.left, dry_run=self.dry_run))
        if self.interrupted:
            what = "marked, and the next process sends them" if not self.process else "marked"
            lines.append(f"interrupted after {self.selected} letters; {self.marked} of them are {what}")
        return "\n".join(lines)

    def _outcome(self) -> str:
        if self.dry_run:
            return f"{self.sent} of {self.selected} letters would be sent"
        if self.spool:
            return f"{counted(self.marked, 'letter')} marked; the workers of the spool {self.spool} send them"
        if self.process and not self.marked and not self.interrupted:
            sending = f": process {self.process} is sending these at this moment" if self.sent else ""
            return f"nothing to mark{sending}"
        if self.process:
            return f"{counted(self.marked, 'letter')} marked; process {self.process} sends them"
        unsent = self.invalid_count + self.nowhere_count
        return f"{self.delivered} delivered, {self.failed} failed, {unsent} not sent"


def _changes(found: list[tuple[str, Any, Any]]) -> str:
    """``.kind "HOLD" → "ANSWER"``, for each place."""
    shown = [f"{path} {_shown(before)} → {_shown(after)}" for path, before, after in found]
    return printable(redact(", ".join(shown)))


def _shown(value: Any) -> str:
    return "(nothing)" if value is None else cut(json.dumps(value, ensure_ascii=False), _MAX_VALUE)


def _first(found: dict[int, str]) -> list[tuple[int, str]]:
    return list(found.items())[:_MOST_WORDS]
