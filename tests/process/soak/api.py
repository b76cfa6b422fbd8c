"""The strict receiver: an event API for several sinks that remembers each key, its bytes and its answer."""

import asyncio
import hashlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.event_api import INGEST, TOKEN, events_of, key
from tests.process.soak.events import Seen, read
from tests.receiver import Action, Cut, Receiver, Reply, Request

Stage = Literal["before", "while", "after"]
STAGES: tuple[Stage, ...] = ("before", "while", "after")
"""Where a kill is aimed: before a request is taken, after it and before its answer, just after the answer."""


@dataclass
class SinkApi:
    """What one sink's API has taken, and how it misbehaves."""

    trouble: float = 0.0  # share of requests that go wrong
    slow_s: float = 0.0
    dead: bool = False
    max_body: int = 1_000_000
    answers: dict[str, tuple[str, Reply]] = field(default_factory=dict)  # key -> digest of the body, answer
    taken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # event -> keys
    order: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # group -> seq, first come
    problems: list[str] = field(default_factory=list)

    def take(self, name: str, events: Sequence[Seen]) -> None:
        for one in events:
            if not self.taken[one.id]:
                self.order[one.group].append(one.seq)
            self.taken[one.id].append(name)


class Api(Receiver):
    """Sink NAME posts below ``/NAME``, that of another member of a group below ``/NAME/MEMBER``.
    ``journal``: what became of every request."""

    def __init__(self, sinks: dict[str, SinkApi], rng: random.Random, journal: Path) -> None:
        super().__init__(self._answer)
        self._journal = journal.open("a", encoding="utf-8")
        self.sinks = sinks
        self._random = rng
        self._aim: tuple[Stage, int, Callable[[], None]] | None = None

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._journal.close()
        await super().__aexit__(kind, *_)

    def aim(self, stage: Stage, after: int, kill: Callable[[], None]) -> None:
        """``after``: so many requests are let by first."""
        self._aim = stage, after, kill

    def at_ease(self) -> None:
        self._aim = None

    def calm(self) -> None:
        """From now on everything is taken that can be."""
        for sink in self.sinks.values():
            sink.trouble, sink.slow_s, sink.dead = 0.0, 0.0, False

    async def _answer(self, request: Request) -> Action:
        if request.path == "/oauth/token":
            return Reply(body=TOKEN)
        name = request.path.split("/")[1]
        sink = self.sinks[name]
        if sink.dead:
            return Cut("rst")
        kill_at, kill = self._aimed()
        if kill_at == "before":
            self.note(name, request, "killed before it was taken")
            kill()
            return Cut("rst")
        trouble = self._trouble(sink)
        if isinstance(trouble, Reply):
            self.note(name, request, f"not taken, {trouble.status}")
            return trouble
        answer = self._decide(sink, request)
        self.note(
            name, request, f"{answer.status} {answer.body.decode()}, {trouble or 'answered'}, {kill_at}"
        )
        if kill_at == "while":
            kill()
        elif kill_at == "after":
            asyncio.get_running_loop().call_soon(kill)
        if sink.slow_s:
            await asyncio.sleep(self._random.uniform(0, sink.slow_s))
        return Cut(trouble.where, answer) if trouble else answer  # half of an answer is half of the right one

    def note(self, sink: str, request: Request | None, outcome: str, *, member: str = "") -> None:
        ids = [read(one).id for one in events_of(request)] if request else []
        if request:
            member = request.path.removeprefix(f"/{sink}").removesuffix(INGEST).strip("/")
        line = {
            "at": time.time(),
            "sink": sink,
            "member": member,
            "key": key(request) if request else "",
            "outcome": outcome,
            "events": ids,
        }
        print(json.dumps(line), file=self._journal, flush=True)

    def _aimed(self) -> tuple[Stage | None, Callable[[], None]]:
        if self._aim is None:
            return None, _nothing
        stage, after, kill = self._aim
        self._aim = (stage, after - 1, kill) if after else None
        return (None, _nothing) if after else (stage, kill)

    def _trouble(self, sink: SinkApi) -> Reply | Cut | None:
        """A reply comes instead of taking the request; a cut after that."""
        if self._random.random() >= sink.trouble:
            return None
        soon = {"Retry-After": "0"}
        return self._random.choice(
            [Reply(503), Reply(429, soon), Reply(401), Reply(500), Cut("rst"), Cut(), Cut("mid_body")]
        )

    def _decide(self, sink: SinkApi, request: Request) -> Reply:
        name, digest = key(request), hashlib.sha256(request.body).hexdigest()
        if known := sink.answers.get(name):
            if known[0] != digest:
                sink.problems.append(f"the key {name} came with two bodies")
            return known[1]
        events = [read(one) for one in events_of(request)]
        if len(request.body) > sink.max_body:
            return Reply(413)
        ill = {index: one.ill for index, one in enumerate(events) if one.ill}
        if "unnamed" in ill.values():
            return Reply(400, body=b'{"message":"something in it is wrong"}')
        errors = [{"index": index, "message": "no such queue", "retryable": False} for index in ill]
        body = json.dumps({"errors": errors}).encode()
        if "named" in ill.values():
            return Reply(422, body=body)
        sink.take(name, [one for one in events if not one.ill])
        answer = Reply(207, body=body) if ill else Reply()
        sink.answers[name] = digest, answer
        return answer


def _nothing() -> None:
    """Nobody is killed."""
