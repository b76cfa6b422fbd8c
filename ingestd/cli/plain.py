"""``ingestd config show`` with few and plain words, read without click.

To import click takes longer than all else that this command does. So here is a pass that accepts first, as
there is for settings and events: what it takes is read as click reads it (a test compares them). All other
lines are click's, which has the options, the errors and the help.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any

_VALUES = {"--config": "config_file", "--state-dir": "state_dir"}
_COMPLETES = "_INGESTD_COMPLETE"
"""A shell asks click for words."""


def answer(words: Sequence[str]) -> str | None:
    """What the command line ``words`` prints; None: it is not plain. Raises UserError."""
    if words[:2] != ["config", "show"] or _COMPLETES in os.environ or (given := read(words[2:])) is None:
        return None
    from ingestd.config.show import listing

    overrides = {("state", "dir"): given.get("state_dir")}
    shown = listing(given.get("config_file"), overrides, in_json="as_json" in given)
    return shown if shown.isascii() else None  # click knows what the terminal takes


def read(words: Iterable[str]) -> dict[str, Any] | None:
    """What click makes of ``words`` behind ``config show``; None: that is for click to say."""
    given: dict[str, Any] = {}
    left = iter(words)
    for word in left:
        if word == "--json":
            given["as_json"] = True
        elif word in _VALUES and (value := next(left, "")) and not value.startswith("-"):
            given[_VALUES[word]] = value
        else:
            return None
    return given
