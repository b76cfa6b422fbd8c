"""The contract of a schema: what ``processing/validate.py`` asks of it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ingestd.core.reasons import Reason

MAX_MESSAGE = 200
MAX_ERRORS = 10


class FieldError(NamedTuple):
    """One thing that is wrong with an event."""

    field: str
    """Dotted path, ``routingMetadata.actionType``; empty for the event as a whole."""
    message: str
    """What was expected and what was found; cut to ``MAX_MESSAGE`` characters."""


class Refusal(NamedTuple):
    """Why an event is not valid: ``Reason.INVALID`` or ``Reason.UNPARSABLE``.

    ``errors``: at least one, at most ``MAX_ERRORS``.
    """

    reason: Reason
    errors: list[FieldError]

    @property
    def words(self) -> str:
        return "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in self.errors)


class Schema(Protocol):
    """What a valid event is, and which of its fields make it the same event as another."""

    @property
    def name(self) -> str: ...

    @property
    def default_key(self) -> tuple[str, ...]:
        """JSON paths (see ``key_paths``) of the deduplication key; empty if there is none."""
        ...

    def keys(self, events: Sequence[bytes]) -> list[str | None]:
        """The compiled pass over a chunk: for each event its key text, or None.

        A string says that the event is valid: its ``default_key`` as text, or ``""`` where it has
        none. None says only that this pass did not accept it: ask ``explain``. It never accepts
        what ``explain`` refuses.
        """
        ...

    def explain(self, event: bytes) -> Refusal | None:
        """The full check of one event: None if it is valid."""
        ...
