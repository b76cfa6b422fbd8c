"""Numbers and times as the console shows them; a dash for what is not known."""

from ingestd.core.units import brief_seconds, human_size, rfc3339


def number(value: float | None) -> str:
    """``12,345``, ``3.4``."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:,.1f}"


def duration(seconds: float | None) -> str:
    return "-" if seconds is None else brief_seconds(seconds)


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def moment(wall: float | None) -> str:
    return "-" if wall is None else rfc3339(wall)


FILTERS = {
    "number": number,
    "size": human_size,
    "duration": duration,
    "milliseconds": milliseconds,
    "moment": moment,
}
