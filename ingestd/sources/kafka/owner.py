"""Whom a member of a group tells what happens. All is called in the loop."""

from collections.abc import Mapping
from typing import Protocol

from ingestd.core.errors import UserError
from ingestd.sources.kafka.client import Start, TopicPart
from ingestd.sources.kafka.runs import Run


class Owner(Protocol):
    def came(self, runs: list[Run]) -> None:
        """Messages came, each run of one partition, in their order."""
        ...

    def on_problem(self, text: str) -> None:
        """Nothing comes now; the library tries again. Empty: it comes again."""
        ...

    def on_away(self, text: str) -> None:
        """A broker is not reached; the library tries again."""
        ...

    def ended(self, error: UserError) -> None:
        """The member has left the group and does not come back."""
        ...


class CommitsMade(Protocol):
    """What became of commits that somebody waits for."""

    def made(self, starts: Mapping[TopicPart, Start]) -> None:
        """The brokers have these offsets with their notes."""
        ...

    def note_refused(self, place: TopicPart) -> None:
        """The brokers keep no note of that length."""
        ...
