"""Numbers and times as the console shows them."""

from datetime import UTC, datetime


def number(value: float | None) -> str:
    """``12,345``, ``3.4``; a dash for what is not known."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:,.1f}"


def size(value: float) -> str:
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:,.0f} {unit}"
        value /= 1000
    return f"{value:,.1f} GB"


def duration(seconds: float | None) -> str:
    """``45s``, ``12m``, ``3h 20m``, ``2d 4h``."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def clock(wall: float | None) -> str:
    """``2026-11-28 14:03:07Z``."""
    return "-" if wall is None else f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%SZ}"


FILTERS = {
    "number": number,
    "size": size,
    "duration": duration,
    "milliseconds": milliseconds,
    "clock": clock,
}
