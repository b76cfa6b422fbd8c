"""A body made of events with something between and around them. Used by the sinks."""

from collections.abc import Sequence


def frame(prefix: bytes, separator: bytes, suffix: bytes, events: Sequence[bytes]) -> bytes:
    """``prefix + separator.join(events) + suffix``, but half a megabyte is copied once, not thrice."""
    if not events:
        return prefix + suffix
    framed = list(events)  # the frame goes into the join
    framed[0] = prefix + framed[0]
    framed[-1] += suffix
    return separator.join(framed)
