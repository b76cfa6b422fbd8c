"""The settings of what reads files and standard input."""

from typing import Annotated, Literal

from ingestd.core.setting_types import After, Size, field
from ingestd.core.unwrap import UnwrapSection


def _max_rejected(text: str) -> str:
    from ingestd.core.ledger import MaxRejected

    MaxRejected.parse(text)
    return text.strip()


def _delimiter(text: str) -> str:
    found = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(found) != 1 or found in '"\r\n\0':
        raise ValueError("expected one character, as ; or |, or tab")
    return found


class SourceConfig(UnwrapSection):
    """What is read."""

    max_event_bytes: Size = field(
        1024 * 1024, ge=1024, description="longest event; a longer line is rejected"
    )
    max_window: Size = field(
        128 * 1024 * 1024,
        ge=1024,
        le=2**31,
        description="memory that a frame of zstd may ask for; at most 2GiB",
    )
    items: str = field(
        "", description="files hold objects with lists of this name, and those hold the events"
    )
    format: Literal["auto", "lines", "values", "csv", "parquet"] = field(
        "auto",
        description="auto: as its first bytes say, but never csv; lines: an event a line; values: JSON"
        " wherever it ends; csv, parquet: an event a row",
    )
    delimiter: Annotated[str, After(_delimiter)] = field(
        ",", description="what separates the cells of csv: one character, or tab"
    )
    keep_going: bool = field(
        False, description="a replay goes on where the first 100 events are all refused for one reason"
    )
    max_rejected: Annotated[str, After(_max_rejected)] = field(
        "", description="most rejected events, as 500 or 1%, with which a replay succeeds; more end it"
    )
