"""Whatever the API does: the ledger balances, nothing is lost, a key never carries other bytes."""

import random

import pytest

from ingestd.core.backoff import Backoff
from ingestd.core.reasons import Reason
from tests.each import each
from tests.effort import seeds
from tests.integration.delivery.support import make_batch, numbers_of, rig
from tests.receiver import Action, Cut, Reply, Request

pytestmark = pytest.mark.anyio

FAULTS: list[Action] = [
    *[Reply(status, {"Retry-After": "0"}) for status in (408, 425, 429, 500, 502, 503, 504)],
    Cut(),
    Cut("rst"),
    Reply(409, {"Retry-After": "0"}, b"in progress"),
    Reply(401),
]


class FaultyApi:
    """Takes what is good, refuses what is bad in several ways, and fails by chance: the same for a seed.

    It honours idempotency keys: it decides on a key once, and answers the same from then on. Faults come
    before the decision or after it, so that some of what it took is answered as trouble first.
    """

    def __init__(self, seed: int, events: int) -> None:
        self.rng = random.Random(seed)
        self.bad = {n for n in range(events) if self.rng.random() < 0.02}
        self.most_events = self.rng.choice([3, 8, 100])
        self.taken: dict[int, set[str]] = {}  # event -> the keys it was taken under
        self.decided: dict[str, Action] = {}

    def __call__(self, request: Request) -> Action:
        key, numbers = request.headers["idempotency-key"], numbers_of(request)
        fault = self.rng.choice(FAULTS) if self.rng.random() < 0.2 else None
        if fault and self.rng.random() < 0.5:
            return fault
        if key not in self.decided:
            self.decided[key] = self._decide(numbers, key)
        return fault or self.decided[key]

    def _decide(self, numbers: list[int], key: str) -> Action:
        if len(numbers) > self.most_events:
            return Reply(413)
        bad = [index for index, number in enumerate(numbers) if number in self.bad]
        if bad:
            return self._refuse(numbers, bad, key)
        if len(numbers) > 1 and self.rng.random() < 0.1:
            busy = self.rng.randrange(len(numbers))
            self._take([number for index, number in enumerate(numbers) if index != busy], key)
            return self._errors(207, [busy], retryable=True)
        self._take(numbers, key)
        return Reply()

    def _refuse(self, numbers: list[int], bad: list[int], key: str) -> Action:
        how = self.rng.choice(["unnamed", "named", "partly"])
        if how == "unnamed":
            return Reply(400, body=b"no")
        if how == "named":
            return self._errors(422, bad)
        self._take([number for index, number in enumerate(numbers) if index not in bad], key)
        return self._errors(200, bad)

    def _errors(self, status: int, indices: list[int], *, retryable: bool = False) -> Reply:
        entries = [f'{{"index":{i},"message":"no","retryable":{str(retryable).lower()}}}' for i in indices]
        return Reply(status, body=f'{{"errors":[{",".join(entries)}]}}'.encode())

    def _take(self, numbers: list[int], key: str) -> None:
        for number in numbers:
            self.taken.setdefault(number, set()).add(key)


@each("seed", seeds(2, 60))
async def test_every_event_has_one_end_and_every_good_one_is_delivered_once(seed: int) -> None:
    rng = random.Random(seed)
    sizes = [rng.choice([1, 2, 5, 20, 40]) for _ in range(rng.randint(30, 60))]
    starts = [sum(sizes[:n]) for n in range(len(sizes))]
    given = [make_batch(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]
    api = FaultyApi(seed, sum(sizes))
    settings = {"backoff": Backoff(base_s=0.001, cap_s=0.005), "circuit_threshold": 1000}
    async with rig(api, max_in_flight=rng.choice([1, 5]), **settings) as r:
        await r.deliver(given)
        assert set(r.book.buried) == api.bad
        assert {end.reason for end in r.book.buried.values()} <= {Reason.REFUSED}
        assert not api.bad & set(api.taken), "taken and buried"
        assert [n for n, keys in api.taken.items() if len(keys) != 1] == [], "one event under two keys"
        assert sorted(api.taken) == r.book.delivered
        assert all(batch.segments[0].chunk.receipt.open == 0 for batch in given)
        r.assert_resends_identical()
