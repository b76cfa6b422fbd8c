"""``[[tests]]``: events, and what sinks get of them."""

from typing import Annotated, Any

from ingestd.core.section import Section
from ingestd.core.setting_types import After, Described, field


def _event(value: Any) -> Any:
    if not isinstance(value, dict | str):
        raise ValueError("expected an event, as JSON text or as a table")
    return value


GivenEvent = Annotated[Any, After(_event), Described({"type": ["object", "string"]})]


class EventTest(Section):
    """One event, and what is expected of it: see `ingestd test`."""

    name: str = field("", description="in words; empty: the number of the test")
    event: GivenEvent = field(description="JSON text, or a table")
    rejected: str = field("", description="words that its refusal has; empty: the event is valid")
    gets: dict[str, GivenEvent] = field(
        {},
        description="sink -> the event that it gets, as JSON text or a table; or dropped, failed, unmatched",
    )
