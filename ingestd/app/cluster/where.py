"""``ingestd where`` with a spool on JetStream: the stream, the logs of all shares, and the dead letters."""

from collections.abc import Sequence
from typing import Any

from ingestd.app.cluster.letters import snapshot
from ingestd.app.cluster.spool import on_nats
from ingestd.app.console.where import keys_of, read_steps, words_of
from ingestd.cluster import installation, sink_registry
from ingestd.cluster.chunk_message import EVENTS, ID
from ingestd.cluster.direct_read import FoundMessage, read_whole
from ingestd.cluster.membership import shares_of
from ingestd.cluster.names import ALL, Share, StreamNames
from ingestd.cluster.share_log import LoggedRecord, ShareLog
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.core.redaction import redact_tree
from ingestd.processing.dedup import DIGEST_BYTES, Window
from ingestd.sources.nats.connection import NatsConnection
from ingestd.sources.nats.stream_state import nanoseconds
from ingestd.store.connection import FILE_NAME
from ingestd.wiring.factories import make_validator

Fields = dict[str, Any]


def where(settings: Settings, asked: str) -> Fields:
    """As ``app.console.where.where``; ``steps`` have the ``partition`` and the ``sequence`` of the chunk, and
    what was accepted the ``edge`` and its ``number``. Raises UserError."""
    keys = keys_of(make_validator(settings) if asked.startswith("{") else None, asked)
    found = on_nats(settings, lambda connection: _find(connection, settings, keys, asked))
    digests = found.pop("digests")
    with snapshot(settings) as directory:
        found["letters"] = read_steps(directory / FILE_NAME, digests, asked)["letters"]
    for step in found["steps"]:
        if step["what"] == "delivered" and any(_is_of(one, step) for one in found["letters"]):
            step["what"] = "dead_lettered"
    shown: Fields = redact_tree({"asked": asked, "words": words_of(found), **found, "attempts": []})
    return shown


def _is_of(letter: Fields, step: Fields) -> bool:
    return bool(letter["sink"] == step["sink"] and letter["batch"] == step["batch"])


async def _find(connection: NatsConnection, settings: Settings, keys: set[str], asked: str) -> Fields:
    names = StreamNames(settings.spool.name)
    installed = await installation.load(connection, settings)
    sinks = await sink_registry.known_sinks(connection, names)
    window = Window(bytes.fromhex(installed.secret), max_count=1)
    digests = [window.digest(key) for key in sorted(keys)]
    steps, waiting = list[Fields](), list[Fields]()
    chunks: list[tuple[int, int]] = []
    clock = SystemClock()
    async for messages in read_whole(connection, names.events, names.partition(ALL), clock):
        for message in messages:
            if any(_place_of(digest, _keys_in(message)) >= 0 for digest in digests):
                steps.append(_accepted(message))
                chunks.append((int(message.subject.rpartition(".")[2]), message.sequence))
    for share in shares_of(sinks, installed.numbers):
        records = await ShareLog(connection, names, share, clock).read()
        mine = [sequence for partition, sequence in chunks if share.partition in (ALL, partition)]
        done, left = _of_share(share, records, digests, asked, mine)
        steps += done
        waiting += left
    steps.sort(key=lambda step: step["at"])
    is_known = any(step["sink"] for step in steps)
    state = "pending" if waiting else "known" if is_known else "new"
    return {"steps": steps, "waiting": waiting, "state": state, "digests": digests}


def _keys_in(message: FoundMessage) -> bytes:
    count = message.headers.get(EVENTS, "")
    return message.data[: int(count) * DIGEST_BYTES] if count.isdigit() else b""


def _place_of(digest: bytes, packed: bytes) -> int:
    """Which of the keys it is; -1: none."""
    at = packed.find(digest)
    while at > 0 and at % DIGEST_BYTES:
        at = packed.find(digest, at + 1)
    return at // DIGEST_BYTES if at >= 0 else -1


def _accepted(message: FoundMessage) -> Fields:
    edge, _, number = message.headers.get(ID, "").rpartition("-")
    return {
        "at": nanoseconds(message.headers["Nats-Time-Stamp"]) / 1e9,
        "what": "accepted",
        "sink": None,
        "batch": None,
        "producer": None,
        "edge": edge,
        "number": int(number) if number.isdigit() else None,
        "partition": message.subject.rpartition(".")[2],
        "sequence": message.sequence,
    }


def _of_share(
    share: Share, records: Sequence[LoggedRecord], digests: Sequence[bytes], asked: str, chunks: Sequence[int]
) -> tuple[list[Fields], list[Fields]]:
    """What became of it at this sink, and where it waits. What was settled and is older than the window is in
    no log any more."""
    steps, sent = list[Fields](), dict[str, Fields]()
    where: Fields = {"sink": share.sink, "partition": share.where}
    for one in records:
        record = one.record
        for frozen in record.frozen:
            if frozen.id == asked or any(_place_of(digest, frozen.keys) >= 0 for digest in digests):
                sequence = next(iter(chunk for chunk, _ in frozen.places), None)
                sent[frozen.id] = where | {"batch": frozen.id, "sequence": sequence, "events": frozen.events}
        for settled in record.settled:
            goes_on = any(_place_of(digest, settled.left) >= 0 for digest in digests)
            if (found := sent.pop(settled.id, None)) and not goes_on:
                steps.append({"at": record.at, "what": "delivered", "attempts": None, **found})
        if any(_place_of(digest, record.known) >= 0 for digest in digests):
            step = {"at": record.at, "what": "delivered", "batch": None, "why": "as a letter, sent again"}
            steps.append(where | step)
    floor = records[-1].record.reached.floor if records else 0
    waits = [sequence for sequence in chunks if sequence > floor]
    if not (sent or (waits and not steps)):
        return steps, []
    place = "on its way" if sent else "in the spool"
    return steps, [where | {"place": place, "circuit": "", "why": None}]
