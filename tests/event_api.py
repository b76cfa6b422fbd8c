"""Events, files of them, and the event API that they are sent to."""

import gzip
import hashlib
import random
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tests.receiver import Action, Receiver, Reply, Request

INGEST = "/api/v2/events/ingest"
TOKEN = b'{"access_token": "CANARY-token-a1b2", "expires_in": 3600}'

Answering = Callable[[Request], Action | Awaitable[Action]]


def event(number: int, *, kind: str = "queue", note: str = "") -> bytes:
    """A valid interaction event, in a spelling that no serialiser of ours would choose."""
    return (
        f'{{ "eventType":"routing.interaction.{kind}", "eventTime":"2026-01-01T09:00:00Z",'
        f'"interactionId":"i-{number:06}",'
        '"routingMetadata":{"queueId":"q\\u00e9", "skill":"s","actionType":"QUEUE"},'
        f'"attributes":{{"zeta":1.50,"note":"{note}"}}, "schemaVersion":1 }}'
    ).encode()


def events(count: int, *, first: int = 0, note: str = "") -> list[bytes]:
    return [event(number, note=note) for number in range(first, first + count)]


def noise(number: int, size: int) -> str:
    """Text that compression makes little shorter, as what is to fill a disk; the same each time. What
    neighbours of one size get is a part of its own of the same four megabytes."""
    text = _noise()
    start = number * size % (len(text) - size)
    return text[start : start + size]


@cache
def _noise() -> str:
    return b64encode(random.Random(0).randbytes(3 << 20)).decode()


INVALID = b'{"eventType":"x","eventTime":"yesterday","interactionId":"bad","schemaVersion":9}'


def write(path: Path, lines: Sequence[bytes]) -> Path:
    """NDJSON, packed if the name says so."""
    data = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


class _Body(msgspec.Struct):
    events: list[msgspec.Raw]


class EventApi(Receiver):
    """Takes batches at ``INGEST``, hands out tokens at ``/oauth/token``; ``ingest`` scripts the answers."""

    def __init__(self, ingest: Answering | None = None, *, token: Answering | None = None) -> None:
        self.ingest = ingest or (lambda request: Reply())
        self.token = token or (lambda request: Reply(body=TOKEN))
        super().__init__(lambda r: self.ingest(r) if r.path == INGEST else self.token(r))

    @property
    def batches(self) -> list[Request]:
        """Requests with events, in the order of their arrival."""
        return [request for request in self.requests if request.path == INGEST]

    @property
    def events(self) -> list[bytes]:
        """The bytes of every event that came in, as often as it came."""
        return [one for request in self.batches for one in events_of(request)]

    @property
    def keys(self) -> list[str]:
        return [key(request) for request in self.batches]


def events_of(request: Request) -> list[bytes]:
    body = msgspec.json.decode(request.body, type=_Body)
    found = [bytes(raw) for raw in body.events]
    assert request.body == b'{"events":[' + b",".join(found) + b"]}"
    return found


def key(request: Request) -> str:
    assert request.headers["idempotency-key"] == request.headers["x-request-id"]
    return request.headers["idempotency-key"]


def once_each(requests: Sequence[Request]) -> dict[str, list[bytes]]:
    """Key -> events. Fails if one key came with two different bodies, or an event under two keys."""
    bodies: dict[str, str] = {}
    found: dict[str, list[bytes]] = {}
    owner: dict[bytes, str] = {}
    for request in requests:
        name, digest = key(request), hashlib.sha256(request.body).hexdigest()
        assert bodies.setdefault(name, digest) == digest, f"another body under the key {name}"
        found[name] = events_of(request)
        for one in found[name]:
            assert owner.setdefault(one, name) == name, f"{one!r} went out under two keys"
    return found


def assert_balanced(report: Mapping[str, Any]) -> None:
    ends = ("delivered", "duplicate", "rejected", "dead_lettered", "in_flight")
    assert report["accepted"] == sum(report[name] for name in ends), report
