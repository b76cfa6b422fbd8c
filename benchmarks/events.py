"""The benchmarks' input: a deterministic file of interaction events, and its exact ledger.

Of every 100 lines 2 are copies of an event at most ``COPY_DISTANCE`` events back, and 1 is invalid. Files are
cached under ``benchmarks/data/``. ``python -m benchmarks.events 1000000`` writes one and prints its counts.
"""

import argparse
import json
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parent / "data"
COPY_DISTANCE = 1_000
_FORMAT = 1  # part of the file name: raise it with every change to what is written
_BLOCK = 100
_COPIES_AT = (49, 99)
_INVALID_AT = 24
_START_S = 1_767_225_600  # 2026-01-01T00:00:00Z

_ACTIONS = (b"QUEUE", b"ANSWER", b"TRANSFER", b"REQUEUE", b"DISCONNECT")
_SKILLS = (b"support", b"billing", b"sales-spanish", b"technical-tier-2", b"retention")
_SEGMENTS = (b"enterprise", b"consumer", b"small-business")
_NOTES = (
    b"customer asked for a call back after the outage in the northern region",
    "R\u00fcckruf aus Z\u00fcrich: Kundin m\u00f6chte den Vertrag \u00e4ndern und neu verhandeln".encode(),
    b"transferred from the self-service menu, identity verified with two factors",
)

_TEMPLATE = (
    b'{"eventType":"routing.interaction.%(type)s","eventTime":"%(time)s",'
    b'"interactionId":"5f0c2a9e-7b1d-4c35-9e60-%(interaction)012x",'
    b'"routingMetadata":{"queueId":"queue-%(queue)04d","skill":"%(skill)s","actionType":"%(action)s"},'
    b'"attributes":{"customer_segment":"%(segment)s","priority":%(priority)d,"wait_seconds":%(wait).1f,'
    b'"note":"%(note)s","direction":"INBOUND","redelivered":false},"schemaVersion":%(version)d}'
)


class Ledger(NamedTuple):
    """What has to become of the events of one file, when the API takes everything."""

    accepted: int
    delivered: int
    duplicate: int
    rejected: int
    bytes: int


class Input(NamedTuple):
    path: Path
    ledger: Ledger


def _corruptions() -> tuple[Callable[[bytes], bytes], ...]:
    """The kinds of invalid event. None of them may be one that a lenient reader accepts."""

    def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
        def apply(line: bytes) -> bytes:
            assert old in line
            return line.replace(old, new, 1)

        return apply

    return (
        swap(b'"schemaVersion":', b'"schemaVersion":9'),
        swap(b'"actionType":"', b'"actionType":"PARK'),
        swap(b'"eventTime":"', b'"eventTime":"yesterday, '),
        swap(b'"interactionId"', b'"interaction_id"'),
        swap(b'"queueId":"', b'"queueId":17,"queue":"'),
        swap(b'"eventType":"', b'"eventType":null,"event":"'),
        swap(b'"note":"', b'"note":"\xff\xfe'),  # not UTF-8
        lambda line: line[:-40],  # cut off: not JSON
    )


def lines(count: int) -> Iterator[tuple[str, bytes]]:
    """Yields ``count`` pairs (fate, line without its end); fate is a field of ``Ledger``."""
    pick = random.Random(count)
    recent: deque[bytes] = deque(maxlen=COPY_DISTANCE)
    corruptions = _corruptions()
    second = b""
    for i in range(count):
        at = i % _BLOCK
        if at == 0:
            second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(_START_S + i // _BLOCK)).encode()
        if at in _COPIES_AT:
            # every other copy says of itself that it is one: same key, other bytes
            copy = recent[int(pick.random() * len(recent))]
            yield "duplicate", copy if at == _COPIES_AT[0] else copy.replace(b":false}", b":true}", 1)
            continue
        action = _ACTIONS[i % len(_ACTIONS)]
        line = _TEMPLATE % {
            b"type": action.lower(),
            b"time": b"%s.%03dZ" % (second, at * 10),
            b"interaction": i // len(_ACTIONS),
            b"queue": i % 211,
            b"skill": _SKILLS[i % 7 % len(_SKILLS)],
            b"action": action,
            b"segment": _SEGMENTS[i % 11 % len(_SEGMENTS)],
            b"priority": i % 10,
            b"wait": i % 1999 / 10,
            b"note": _NOTES[i % 13 % len(_NOTES)],
            b"version": 1 + i % 3,
        }
        if at == _INVALID_AT:
            yield "rejected", corruptions[i // _BLOCK % len(corruptions)](line)
        else:
            recent.append(line)
            yield "delivered", line


def prepare(count: int, *, folder: Path = DATA) -> Input:
    """The file of ``count`` events and its ledger; written unless it is there already and whole."""
    path = folder / f"events-{count}-v{_FORMAT}.jsonl"
    sidecar = path.with_suffix(".ledger.json")
    if path.exists() and sidecar.exists():
        ledger = Ledger(**json.loads(sidecar.read_text()))
        if path.stat().st_size == ledger.bytes:
            return Input(path, ledger)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    fates = {"delivered": 0, "duplicate": 0, "rejected": 0}
    with unfinished.open("wb", buffering=1 << 20) as out:
        for fate, line in lines(count):
            fates[fate] += 1
            out.write(line + b"\n")
        size = out.tell()
    ledger = Ledger(accepted=count, bytes=size, **fates)
    sidecar.write_text(json.dumps(ledger._asdict()))
    os.replace(unfinished, path)
    return Input(path, ledger)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a file of interaction events and print its ledger.")
    parser.add_argument("count", type=int, nargs="?", default=1_000_000)
    started = time.perf_counter()
    made = prepare(parser.parse_args().count)
    print(json.dumps({"path": str(made.path), **made.ledger._asdict()}))
    print(
        f"{made.ledger.bytes / made.ledger.accepted:.0f} bytes/event, {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    main()
