"""Durations and sizes as people write them: ``20ms``, ``10m``, ``24h``, ``500kB``, ``1MiB``."""

import re

from ingestd.core.regex import regex

_NUMBER = r"(\d+(?:\.\d+)?)\s*"
_DURATION = regex(_NUMBER + r"(ms|s|m|h|d)?", re.ASCII)
_SIZE = regex(_NUMBER + r"(b|kb|mb|gb|kib|mib|gib)?", re.ASCII | re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def seconds(text: str | float) -> float:
    """``"20ms"`` -> 0.02. A bare number is seconds. Raises ValueError."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        if text < 0 or text != text or text > 10 * 365 * 86400:
            raise ValueError(f"{text!r} is not a duration: 0 or more seconds expected")
        return float(text)
    match = _DURATION.fullmatch(str(text).strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration: write it like 20ms, 30s, 10m, 24h or 7d")
    return seconds(float(match[1]) * _SECONDS[match[2] or "s"])


def size(text: str | int) -> int:
    """``"1MiB"`` -> 1048576. A bare number is bytes. Raises ValueError."""
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        return text
    match = _SIZE.fullmatch(str(text).strip())
    if not match:
        raise ValueError(f"{text!r} is not a size: write it like 500000, 500kB or 1MiB")
    return int(float(match[1]) * _BYTES[(match[2] or "b").lower()])


def counted(number: int, one: str, many: str = "") -> str:
    """``1 request``, ``2,000 requests``: ``one`` with its number; ``many``: of more, if not with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def human_seconds(value: float) -> str:
    """90 -> ``1m30s``; for messages to people."""
    if value < 1:
        return f"{value * 1000:.0f}ms"
    if value < 60:
        return f"{value:.1f}s".replace(".0s", "s")
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    return "".join(f"{n}{unit}" for n, unit in parts if n)[:12]


def brief_seconds(value: float) -> str:
    """For tables: ``45s``, ``12m``, ``3h 20m``, ``2d 4h``."""
    whole = int(value)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600}h"


def rfc3339(seconds_since_epoch: float, precision: str = "seconds") -> str:
    """0.0 -> ``1970-01-01T00:00:00Z``; ``precision``: seconds, milliseconds or microseconds."""
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(seconds_since_epoch, UTC)
    return at.isoformat(timespec=precision).replace("+00:00", "Z")


def human_size(value: int) -> str:
    """134217728 -> ``128MiB``; as ``size`` reads it."""
    for name, unit in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= unit:
            return f"{value / unit:.1f}{name}".replace(".0", "")
    return f"{value}B"
