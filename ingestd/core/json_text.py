"""JSON that a person wrote: patterns, filters, settings. Stricter than what events may be."""

from typing import Any


def read(text: str) -> Any:
    """The value. Raises ValueError for what is not JSON, as NaN, and for a name that stands in an object
    twice, as TOML does: one of the two would be lost without a word."""
    import json

    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        from collections import Counter

        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {twice[:100]!r} stands twice in one object: give it once")
    return names


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")
