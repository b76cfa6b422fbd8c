"""How many events have the key that a setting asks for. A path that no event has switches deduplication or
order off without an error: then somebody has to be told.

Counted once for each chunk, by whoever takes the keys; read by reports, status, metrics and the log.
"""

from dataclasses import dataclass

_MANY = 1_000
"""Events in a row without a key after which that is told, although earlier ones had it."""


@dataclass(slots=True)
class KeyWatch:
    """``setting``: ``schema.dedup_key``, ``sinks.NAME.order_by``. ``paths``: as they were written."""

    setting: str
    paths: str
    events: int = 0
    without: int = 0
    in_a_row: int = 0
    """The last events, none of which had it; chunk by chunk."""
    _told_at: int = 0

    def count(self, events: int, without: int) -> None:
        """Of a chunk, or of the part of one that was asked for its keys."""
        self.events += events
        self.without += without
        self.in_a_row = self.in_a_row + events if without == events else 0

    @property
    def warning(self) -> str:
        """Empty as long as events have the key."""
        if self.events and self.without == self.events:
            return f"no event of {self.events:,} had {self._what()}: nothing was {self._lost()}"
        if self.in_a_row >= _MANY:
            return f"none of the last {self.in_a_row:,} events had {self._what()}: none was {self._lost()}"
        return ""

    def news(self) -> str:
        """The warning, once, and again when ten times as many events are concerned."""
        if self.in_a_row < self._told_at:  # it was there in the meantime
            self._told_at = 0
        warning = self.warning
        if not warning or self.in_a_row < 10 * self._told_at:
            return ""
        self._told_at = self.in_a_row
        return warning

    def describe(self) -> dict[str, object]:
        """For reports and ``/v1/status``."""
        return {
            "setting": self.setting,
            "paths": self.paths,
            "events": self.events,
            "without_key": self.without,
            "warning": self.warning or None,
        }

    def _what(self) -> str:
        name = "dedup key" if self.setting.endswith("dedup_key") else "order key"
        return f"the {name} `{self.paths[:100]}`"

    def _lost(self) -> str:
        lost = "deduplicated" if self.setting.endswith("dedup_key") else "kept in order"
        return f"{lost} ({self.setting})"
