"""Messages of a broker, as any library gives them, and their places in their source."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

_COUNT_BITS = 16


class Message(NamedTuple):
    """``sequence``: of the stream, or the offset in the partition. ``mark``: what tells it from another that
    had its number before: when the server stored it (NATS), the leader's epoch and a time (Kafka).
    ``subject``: empty where its source has none."""

    sequence: int
    mark: int
    payload: bytes
    headers: Mapping[str, str]
    subject: str = ""


class MessageColumns:
    """Messages in order, as columns: a ``Message`` is made only of those that somebody asks for.

    ``raw``: as a library gave them, ``make`` makes a message of one; ``sequences`` ascend; ``size_bytes``: of
    the payloads, 0: not known yet."""

    __slots__ = ("_make", "_size_bytes", "payloads", "raw", "sequences")

    def __init__(
        self,
        raw: Sequence[Any],
        sequences: Sequence[int],
        payloads: list[bytes],
        make: Callable[[Any], Message],
        size_bytes: int = 0,
    ) -> None:
        self.raw = raw
        self.sequences = sequences
        self.payloads = payloads
        self._make = make
        self._size_bytes = size_bytes

    @classmethod
    def joined(cls, parts: Sequence["MessageColumns"]) -> "MessageColumns":
        """Of a source's, those that follow each other."""
        sequences: Sequence[int] = range(parts[0].sequences[0], parts[-1].sequences[-1] + 1)
        if len(sequences) != sum(map(len, parts)):
            sequences = [*chain.from_iterable(part.sequences for part in parts)]
        return cls(
            [*chain.from_iterable(part.raw for part in parts)],
            sequences,
            [*chain.from_iterable(part.payloads for part in parts)],
            parts[0]._make,
            sum(part.size_bytes for part in parts),
        )

    @property
    def size_bytes(self) -> int:
        """Of the payloads."""
        self._size_bytes = self._size_bytes or sum(map(len, self.payloads))
        return self._size_bytes

    def __len__(self) -> int:
        return len(self.payloads)

    def __getitem__(self, index: int) -> Message:
        return self._make(self.raw[index])

    def __iter__(self) -> Iterator[Message]:
        return map(self._make, self.raw)

    def part(self, first: int, last: int | None = None) -> "MessageColumns":
        """Of these indices; the same one for all of them."""
        if first == 0 and (last is None or last >= len(self.payloads)):
            return self
        of = slice(first, last)
        return type(self)(self.raw[of], self.sequences[of], self.payloads[of], self._make)

    def pick(self, indices: Sequence[int]) -> "MessageColumns":
        raw, sequences, payloads = self.raw, self.sequences, self.payloads
        return type(self)(
            [raw[at] for at in indices],
            [sequences[at] for at in indices],
            [payloads[at] for at in indices],
            self._make,
        )

    def heads(self) -> "MessageColumns":
        """The messages without their payloads, which somebody else keeps: where a library can do that."""
        return self


Messages = Sequence[Message] | MessageColumns


def place_of(sequence: int, messages: int = 0) -> int:
    """The place of a message in its source; the first of a chunk tells also how many messages that has. So a
    chunk that is cut again has the place that it had only if no message of it is gone."""
    return (sequence << _COUNT_BITS) + messages


def sequence_of(place: int) -> int:
    return place >> _COUNT_BITS
