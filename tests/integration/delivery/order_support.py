"""An API that notes in which order it took the events of each key, and a Book that checks the segments."""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ingestd.core.chunk import Batch, Chunk, Segment
from ingestd.core.receipt import Receipt
from ingestd.schemas.key_paths import KeyPaths
from tests.ids import new_id
from tests.integration.delivery.support import End, MemoryBook, event
from tests.receiver import Action, Cut, Reply

order_by = KeyPaths.parse("note").of


def keyed(keys: Sequence[str], *, first: int = 0) -> Batch:
    """A batch of events numbered from ``first``, with these keys; "" is none."""
    events = [event(first + n, key) for n, key in enumerate(keys)]
    chunk = Chunk(list(events), source=1, start=first, end=first + len(events))
    chunk.receipt = Receipt(len(events), lambda: None)
    digests: list[bytes | None] = [b"%016d" % (first + n) for n in range(len(events))]
    return Batch(events, digests, [Segment(chunk, range(len(events)))], new_id=new_id)


def keyed_batches(keys: Sequence[Sequence[str]]) -> list[Batch]:
    starts = [sum(map(len, keys[:n])) for n in range(len(keys))]
    return [keyed(some, first=start) for some, start in zip(keys, starts, strict=True)]


class OrderBook(MemoryBook):
    """A batch of held events has several segments: each must be where the event came from."""

    async def freeze(self, batch: Batch) -> None:
        assert [s.chunk.events[p] for s in batch.segments for p in s.positions] == batch.events
        assert [b"%016d" % json.loads(one)["n"] for one in batch.events] == batch.digests
        await super().freeze(batch)

    def _end(self, batch: Batch, index: int, end: End) -> None:
        assert batch.events[index] not in self.ends, "an event had two ends"
        self.ends[batch.events[index]] = end
        [s.chunk for s in batch.segments for _ in s.positions][index].receipt.settle(1)


FAULTS: list[Action] = [
    *[Reply(status, {"Retry-After": "0"}) for status in (408, 429, 500, 503)],
    Reply(409, {"Retry-After": "0"}, b"in progress"),
    Cut(),
    Cut("rst"),
]


@dataclass
class OrderedApi:
    """Decides on an idempotency key once. Fails before or after that, by chance: the same for a seed."""

    rng: random.Random
    bad: set[int]
    most_events: int
    fault_rate: float = 0.25
    again_rate: float = 0.1

    def __post_init__(self) -> None:
        self.taken: list[tuple[str, int]] = []  # (key, number)
        self.later: defaultdict[int, set[int]] = defaultdict(set)  # event -> what its answer let overtake it
        self.decided: dict[str, Action] = {}

    def answer(self, key: str, body: bytes) -> Action:
        events = [(one["note"], one["n"]) for one in json.loads(body)["events"]]
        fault = self.rng.choice(FAULTS) if self.rng.random() < self.fault_rate else None
        if fault and self.rng.random() < 0.5:
            return fault
        if key not in self.decided:
            self.decided[key] = self._decide(events)
        return fault or self.decided[key]

    def _decide(self, events: list[tuple[str, int]]) -> Action:
        if len(events) > self.most_events:
            return Reply(413)
        bad = [index for index, (_, number) in enumerate(events) if number in self.bad]
        if bad and self.rng.random() < 0.6:
            return Reply(400, body=b"no")
        if bad and self.rng.random() < 0.5:
            return self._errors(422, bad, retryable=False)
        if bad:
            self.taken += [one for one in events if one[1] not in self.bad]
            return self._errors(200, bad, retryable=False)
        if self.rng.random() < self.again_rate:
            busy = self.rng.randrange(len(events))
            self.later[events[busy][1]] |= {number for _, number in events[busy + 1 :]}
            self.taken += [one for index, one in enumerate(events) if index != busy]
            return self._errors(207, [busy], retryable=True)
        self.taken += events
        return Reply()

    def _errors(self, status: int, indices: list[int], *, retryable: bool) -> Reply:
        errors = [{"index": index, "message": "no", "retryable": retryable} for index in indices]
        return Reply(status, body=json.dumps({"errors": errors}).encode())

    def assert_in_order(self) -> None:
        """Nothing twice; in each key ascending, but for what the API itself took out of turn."""
        numbers = [number for _, number in self.taken]
        assert len(set(numbers)) == len(numbers), "an event was taken twice"
        by_key: defaultdict[str, list[int]] = defaultdict(list)
        for key, number in self.taken:
            if key:
                by_key[key].append(number)
        for key, order in by_key.items():
            for at, number in enumerate(order):
                overtaken = {n for n in order[at + 1 :] if n < number and number not in self.later[n]}
                assert not overtaken, f"{key}: {number} before {overtaken}"
