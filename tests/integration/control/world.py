"""The remote control plane in memory: a small, honest ``Api`` for the tests of plans and of kinds.

    world = World(lag_reads=2)
    world.place("integrations", name="there already")
    world.faults[3] = Fault("after")          # the fourth call takes effect, but no answer comes
    await kind.create(world.context(), wanted, {})
    assert world.names("integrations") == ["mine", "there already"]

The rules of each kind are in ``remote.py``. Time is its own: ``sleep`` moves it.
"""

import asyncio
import copy
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ingestd.control.engine.resource import AuditStep, Context
from ingestd.control.engine.secret import SecretRef
from ingestd.transport.api_client import AmbiguousRequest, ApiError
from tests.integration.control import remote
from tests.integration.control.remote import Collection, Thing, Ways, refusal

KINDS: dict[str, type[Collection]] = {  # integrations last: its path begins that of targets
    "targets": remote.Targets,
    "destinations": remote.Destinations,
    "subscriptions": remote.Subscriptions,
    "triggers": remote.Triggers,
    "scheduled_triggers": remote.ScheduledTriggers,
    "presence_sources": remote.PresenceSources,
    "journey_schemas": remote.JourneySchemas,
    "journey_configurations": remote.JourneyConfigurations,
    "integrations": remote.Integrations,
}


@dataclass(slots=True)
class Fault:
    """``before``: the call has no effect; ``after``: it had, but nobody hears of it. ``error``: instead of
    the usual one, which is Ambiguous for POST and PATCH and a 503 for the others."""

    when: Literal["before", "after"]
    error: BaseException | None = None


class World:
    """``calls``: (method, path) of all so far. ``faults``: by the number of the call, from 0. ``on_call``:
    told before each; it may change the world. ``ways.outcomes[name] = "FAILED"``: how verifying ends."""

    def __init__(self, *, lag_reads: int = 0, polls: int = 1) -> None:
        self.ways = Ways(lag_reads, polls)
        self.collections = {name: kind(self.ways) for name, kind in KINDS.items()}
        self.faults: dict[int, Fault] = {}
        self.calls: list[tuple[str, str]] = []
        self.on_call: Callable[[str, str], None] = lambda method, path: None
        self.notes: list[AuditStep] = []
        self.now = 0.0
        self._made = 0

    # For the test

    def context(self, *, secrets: Mapping[str, str] | None = None, deadline_s: float = 60.0) -> Context:
        """``secrets``: text of a reference -> its value; others get one made of the reference."""
        known = secrets or {}

        def secret(reference: SecretRef) -> str:
            return known.get(reference.text, f"value of {reference.text}")

        return Context(
            api=self,
            secret=secret,
            note=self.notes.append,
            rng=random.Random(4),
            clock=self,
            deadline_s=deadline_s,
        )

    timeout = staticmethod(asyncio.timeout)

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_800_000_000.0 + self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    def place(self, collection: str, **body: Any) -> str:
        """Something that was there before, visible and at its end state; its id. An integration takes
        ``properties`` and ``notes`` for its configuration, a destination ``eventTypes``."""
        self._made += 1
        its_id = f"00000000-0000-4000-8000-{self._made:012d}"
        held = self.collections[collection]
        thing = Thing({"id": its_id, "selfUri": f"{held.root}/{its_id}"})
        held.make(thing, copy.deepcopy(body))
        held.things[its_id] = thing
        return its_id

    def catch_up(self) -> None:
        """What was made is visible from now on."""
        for held in self.collections.values():
            for thing in held.things.values():
                thing.hidden_reads = 0

    def thing(self, collection: str, name: str) -> Thing:
        """The one of this name."""
        [found] = [t for t in self.collections[collection].things.values() if t.body["name"] == name]
        return found

    def names(self, collection: str) -> list[str]:
        return sorted(thing.body["name"] for thing in self.collections[collection].things.values())

    def snapshot(self) -> dict[str, list[str]]:
        """All that there is, secrets too, without ids and versions: equal for worlds that mean the same."""
        return {
            name: sorted(json.dumps(thing.essence(), sort_keys=True) for thing in held.things.values())
            for name, held in self.collections.items()
        }

    # The Api

    async def get(self, path: str, *, params: Mapping[str, str | int] | None = None) -> Any:
        return await self._call("GET", path)

    async def post(self, path: str, body: Any = None) -> Any:
        return await self._call("POST", path, body)

    async def put(self, path: str, body: Any) -> Any:
        return await self._call("PUT", path, body)

    async def patch(self, path: str, body: Any) -> Any:
        return await self._call("PATCH", path, body)

    async def delete(self, path: str) -> None:
        try:
            await self._call("DELETE", path)
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def get_when_visible(self, path: str, *, deadline_s: float) -> Any:
        end = self.now + deadline_s
        while True:
            try:
                return await self.get(path)
            except ApiError as error:
                if not error.is_not_found or self.now >= end:
                    raise
            await self.sleep(1.0)

    async def list(self, path: str, *, params: Mapping[str, str | int] | None = None) -> list[Any]:
        entities: list[Any] = (await self._call("GET", path))["entities"]
        wanted_type = (params or {}).get("integrationType") if self.ways.filters else None
        return [e for e in entities if not wanted_type or e["integrationType"]["id"] == wanted_type]

    # The remote

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        await asyncio.sleep(0)
        self.calls.append((method, path))
        self.on_call(method, path)
        fault = self.faults.get(len(self.calls) - 1)
        if fault and fault.when == "before":
            raise fault.error or _no_answer(method, path)
        answer = self._answer(method, path, copy.deepcopy(body))
        if fault:
            raise fault.error or _no_answer(method, path)
        return copy.deepcopy(answer)

    def _answer(self, method: str, path: str, body: Any) -> Any:
        here = f"{method} {path}"
        name, held = next((n, h) for n, h in self.collections.items() if f"{path}/".startswith(f"{h.root}/"))
        parts = [part for part in path[len(held.root) :].split("/") if part]
        match method, parts:
            case "GET", []:
                return {"entities": held.listed()}
            case "POST", []:
                held.check_new(body, here)
                thing = held.things[self.place(name, **body)]
                thing.hidden_reads, thing.polls = self.ways.lag_reads, self.ways.polls
                return held.show(thing)
            case "POST", ["subscriptions"]:
                return held.above(body, here)
            case _, [its_id, *rest]:
                return self._answer_one(held, its_id, rest, body, here)
        raise refusal(405, "method.not.allowed", "not here", here)

    @staticmethod
    def _answer_one(held: Collection, its_id: str, rest: Any, body: Any, here: str) -> Any:
        method, thing = here.split()[0], held.things.get(its_id)
        # A change finds what a read does not see yet: it goes to where the thing was made.
        if thing is None or (method == "GET" and not thing.seen()):
            raise refusal(404, "not.found", f"{its_id} not found", here)
        if rest:
            return held.below(thing, rest, body, here)
        if method == "DELETE":
            held.check_gone(thing, here)
            held.remove(its_id)
            return None
        if method == held.change_by:
            held.change(thing, body, here)
        elif method != "GET":
            raise refusal(405, "method.not.allowed", "not here", here)
        return held.show(thing)


def _no_answer(method: str, path: str) -> Exception:
    if method in {"POST", "PATCH"}:
        return AmbiguousRequest(method, path)
    return refusal(503, "service.unavailable", "no answer", f"{method} {path}")
