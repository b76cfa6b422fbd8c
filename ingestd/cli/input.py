"""What a person gives a command: as words, ``-`` for standard input, ``@FILE`` for a file."""

import os
import sys

from ingestd.core.errors import UserError

MAX_INPUT_BYTES = 8 * 1024 * 1024
"""More than any API takes; standard input may never end."""


def read_file(name: str, limit: int) -> bytes:
    """Up to ``limit`` + 1 bytes of a file, or of standard input (``-``). Raises OSError or ValueError."""
    if name == "-":
        return sys.stdin.buffer.read(limit + 1)
    with open(name, "rb") as file:
        return file.read(limit + 1)


def read_input(given: str) -> bytes:
    """What was typed, or what ``-`` and ``@FILE`` stand for. Raises UserError."""
    try:
        from_file = given == "-" or given.startswith("@")
        found = read_file(given.removeprefix("@"), MAX_INPUT_BYTES) if from_file else os.fsencode(given)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is not a file name"
        raise UserError(f"cannot read {given[1:101] or 'standard input'}: {reason}") from None
    if len(found) > MAX_INPUT_BYTES:
        raise UserError(f"{given[:100]} has more than {MAX_INPUT_BYTES} bytes: no API takes such an event")
    return found.strip(b" \t\r\n")
