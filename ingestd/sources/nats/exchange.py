"""Requests that are sent together, and what comes of them, past what nats-py does for each single message.

It copies what is sent twice, wakes a task that writes it, and for each message that comes the task of a
subscription: for a chunk of an edge more than twice the CPU that is needed.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

_VERSION = "NATS/1.0\r\n"


def written(subject: str, reply: str, data: bytes, headers: Mapping[str, str]) -> list[bytes]:
    """A message with headers, as a client puts it on the wire. Raises ValueError for what would be more than
    one line, or a subject of several words."""
    values = [text for header in headers.items() for text in header]
    if " " in subject or not all(text.isprintable() for text in (subject, *values)):
        raise ValueError("a subject or a header cannot be written in one line")
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"{_VERSION}{lines}\r\n".encode()
    return [f"HPUB {subject} {reply} {len(head)} {len(head) + len(data)}\r\n".encode() + head, data, b"\r\n"]


class DirectInbox:
    """Stands where nats-py takes the future of a single message, and is given all of them, one after the
    other: without the queue, and the task that wakes for it, of a subscription with a callback of its own.
    ``failed`` is told what ``message`` raises: nats-py would end to read."""

    def __init__(self, message: Callable[[Any], object], failed: Callable[[Exception], object]) -> None:
        self._message = message
        self._failed = failed

    def cancelled(self) -> bool:
        """Nobody has to be spared what comes."""
        return False

    def set_result(self, one: Any) -> None:
        """As nats-py calls it, for each message."""
        try:
            self._message(one)
        except Exception as error:
            self._failed(error)


class SharedAnswers:
    """To requests that are sent together: one future for all of them. ``found``: the answers that are there,
    in the order of the requests; None where there is none."""

    def __init__(self, count: int) -> None:
        self.found: list[Any] = [None] * count
        self.all = asyncio.get_running_loop().create_future()
        self._left = count

    def take(self, index: int, one: Any) -> None:
        """Of request ``index``; what comes for it once more is passed over."""
        if self.found[index] is None:
            self.found[index] = one
            self._left -= 1
            if not self._left and not self.all.done():
                self.all.set_result(None)

    def lose(self, why: Exception) -> None:
        """No more of them will come."""
        if not self.all.done():
            self.all.set_exception(why)
            self.all.exception()  # who waits may be gone, and nobody has to hear of it then
