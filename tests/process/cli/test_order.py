"""``delivery.order_by`` through the command: a file, an API that fails, a kill in the middle."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import pytest

from tests.event_api import EventApi, assert_balanced, event, events_of, key, write
from tests.process.cli.support import Place, until
from tests.receiver import Action, Cut, Reply, Request

pytestmark = pytest.mark.anyio

KEYS = 7
LINES = [event(number, note=f"k{number * number % KEYS}") for number in range(900)]


class _Event(msgspec.Struct, rename="camel"):
    interaction_id: str
    attributes: dict[str, object]


class TakingApi:
    """Decides on an idempotency key once; ``fault`` is asked before, and its answer given instead."""

    def __init__(self) -> None:
        self.decided: set[str] = set()
        self.taken: list[bytes] = []
        self.requests = 0

    def __call__(self, request: Request) -> Action:
        self.requests += 1
        fault = self.fault()
        takes = fault is None or isinstance(fault, Cut)  # a cut comes after it was taken
        if takes and key(request) not in self.decided:
            self.decided.add(key(request))
            self.taken += events_of(request)
        return fault or Reply()

    def fault(self) -> Action | None:
        if self.requests % 3 == 0:
            return Reply(503, {"Retry-After": "0"})
        return Cut() if self.requests % 7 == 0 else None


def assert_in_order(taken: Sequence[bytes]) -> None:
    by_key: defaultdict[object, list[int]] = defaultdict(list)
    for one in taken:
        found = msgspec.json.decode(one, type=_Event)
        by_key[found.attributes["note"]].append(int(found.interaction_id[2:]))
    assert len(by_key) > 1
    for numbers in by_key.values():
        assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("how", ["file", "environment"])
async def test_events_of_one_key_arrive_in_the_order_of_the_file_whatever_fails(
    place: Place, how: str
) -> None:
    config = place / "ingestd.toml"
    order = 'order_by = "attributes.note"\n' if how == "file" else ""
    config.write_text(f'[delivery]\n{order}backoff_base = "5ms"\nbackoff_cap = "50ms"\nretry_ratio = 10\n')
    env = {"INGESTD_DELIVERY_ORDER_BY": "attributes.note"} if how == "environment" else {}
    source = write(place / "in.ndjson", LINES)
    taking = TakingApi()
    async with EventApi(taking) as api:
        done = await place.run(
            *place.replay(api, source, "--config", config, "--max-batch-events", 20), env=env
        )
    assert done.code == 0, done
    assert sorted(taking.taken) == sorted(LINES)
    assert_in_order(taking.taken)
    assert_balanced(place.report)
    assert place.report["delivered"] == len(LINES)


async def test_after_a_kill_the_order_goes_on_where_it_was(place: Place) -> None:
    source = write(place / "in.ndjson", LINES)
    taking = TakingApi()
    env = {"INGESTD_DELIVERY_ORDER_BY": "attributes.note", "INGESTD_DELIVERY_BACKOFF_BASE": "5ms"} | {
        "INGESTD_DELIVERY_RETRY_RATIO": "10"
    }
    async with EventApi(taking) as api:
        words = place.replay(api, source, "--max-batch-events", 20)
        for share in (100, 300):
            async with place.start(*words, env=env) as running:
                await until(lambda share=share: len(taking.taken) >= share)  # type: ignore[misc]
                await running.kill()
        done = await place.run(*words, env=env)
    assert done.code == 0, done
    assert sorted(taking.taken) == sorted(LINES)
    assert_in_order(taking.taken)


async def test_paths_that_are_none_end_the_run_before_anything_is_sent(place: Place) -> None:
    source = write(place / "in.ndjson", LINES[:1])
    api = EventApi()
    async with api:
        done = await place.run(*place.replay(api, source), env={"INGESTD_DELIVERY_ORDER_BY": "a..b"})
    assert api.requests == []
    assert done.code == 2, done
    assert "delivery.order_by: 'a..b' is not a path of a key" in done.err
