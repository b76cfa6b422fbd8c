"""Events that a receiver can tell apart, and whose order it can judge."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

INVALID = b'{"eventType":"x","eventTime":"yesterday","interactionId":"bad","schemaVersion":9}'
ILLNESSES = ("named", "unnamed", "item")
"""How an API refuses an event for good: 422 with its index, 400 without, as one of the errors in a 207."""
GROUP = "attributes.group"
"""The path to order by: events of a group have rising numbers, ``seq``."""


class _Attributes(msgspec.Struct):
    group: str
    seq: int
    ill: str


class _Event(msgspec.Struct, rename="camel"):
    interaction_id: str
    attributes: _Attributes


@dataclass(frozen=True, slots=True)
class Seen:
    """What a receiver reads of an event."""

    id: str
    group: str
    seq: int
    ill: str


def read(event: bytes) -> Seen:
    found = msgspec.json.decode(event, type=_Event)
    return Seen(found.interaction_id, found.attributes.group, found.attributes.seq, found.attributes.ill)


class Maker:
    """Makes the events of one producer or file, some of them ill; the groups are its own."""

    def __init__(self, name: str, rng: random.Random, *, groups: int = 4, ill: float = 0.01) -> None:
        self._name, self._rng, self._ill = name, rng, ill
        self._next = [0] * groups

    def make(self, *, pad: int = 0) -> bytes:
        group = self._rng.randrange(len(self._next))
        seq, self._next[group] = self._next[group], self._next[group] + 1
        ill = self._rng.choice(ILLNESSES) if self._rng.random() < self._ill else ""
        return (
            f'{{"eventType":"routing.interaction.queue","eventTime":"2026-01-01T09:00:00Z",'
            f'"interactionId":"{self._name}.{group}.{seq}","schemaVersion":1,'
            '"routingMetadata":{"queueId":"q","skill":"s","actionType":"QUEUE"},'
            f'"attributes":{{"group":"{self._name}.{group}","seq":{seq},"ill":"{ill}","pad":"{"x" * pad}"}}}}'
        ).encode()

    def many(self, count: int, *, pad: int = 0) -> list[bytes]:
        return [self.make(pad=pad) for _ in range(count)]


def with_copies(events: Sequence[bytes], rng: random.Random, *, share: float, within: int) -> list[bytes]:
    """``share`` of the events come once more, each at most ``within`` lines after its original."""
    lines: list[bytes] = []
    for one in events:
        lines.append(one)
        if rng.random() < share:
            lines.append(lines[-rng.randint(1, min(within, len(lines)))])
    return lines
