"""What the whole of ``ingestd run`` behind a topic of Kafka costs, against a ``replay`` of the same events.

Both take all of them from an empty state to the last delivery, in turns; start and end are in both figures.
"""

import importlib.util
import os
import zlib
from collections.abc import Iterator, Mapping
from compileall import compile_dir
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks import scenarios
from benchmarks.cluster_process import Node, scratch, stop, wait_for, write
from benchmarks.events import Input, prepare
from benchmarks.processes import Receiver
from benchmarks.serve_process import used_by
from tests.kafka_server import Topic, kafka_server, topic

EVENTS = 500_000
_TIMEOUT_S = 180.0
SHAPES: Mapping[str, tuple[int, str]] = {
    "1 partition": (1, ""),
    "4 partitions": (4, ""),
    "4 partitions, exact_takeover = false": (4, "exact_takeover = false\n"),
}
"""(partitions, more lines of [ingest.kafka])"""


class Ratio(NamedTuple):
    """``ratio``: CPU of ``ingestd run`` behind a topic of this ``shape`` ÷ that of a replay of this round."""

    shape: str
    ratio: float
    replay_us: float


def ratios(rounds: int, events: int = EVENTS) -> Iterator[Ratio]:
    """None where there is no broker. Raises RuntimeError where an event was not delivered, or twice."""
    if "KAFKA_LIB" not in os.environ or not importlib.util.find_spec("confluent_kafka"):
        return
    given = prepare(events)
    compile_dir("ingestd", quiet=1)  # as where it is installed: a start compiles nothing
    with ExitStack() as stack:
        server = stack.enter_context(kafka_server(stack.enter_context(scratch()) / "kafka"))
        topics = {count: topic(server, count) for count in {count for count, _ in SHAPES.values()}}
        for made, count in ((made, count) for count, made in topics.items()):
            _produce(made, count, given)
        for number in range(rounds):
            replay_s = _replay_s(given)
            shapes = [*SHAPES.items()]
            for shape, (count, more) in shapes if number % 2 == 0 else reversed(shapes):
                used_s = _run_s(topics[count], f"{shape} {number}", more, given)
                yield Ratio(shape, used_s / replay_s, replay_s / events * 1e6)


def _produce(made: Topic, partitions: int, given: Input) -> None:
    """A copy goes where its event is."""
    with given.path.open("rb") as file:
        for line in file:
            payload = line[:-1]
            key = payload.partition(b'"routingMetadata"')[0]
            made.send(payload, zlib.crc32(key) % partitions)
    made.produce()


def _replay_s(given: Input) -> float:
    check = scenarios.check_delivered
    run = scenarios.run_replay("replay", given, receiver=("--count",), check=check, timeout_s=_TIMEOUT_S)
    if run.faults:
        raise RuntimeError(f"replay: {run.faults}")
    return run.cpu_s


def _run_s(made: Topic, group: str, more: str, given: Input) -> float:
    expected = given.ledger
    with Receiver("--count") as api, scratch() as directory:
        source = f'bootstrap_servers = "{made.bootstrap}"\ntopics = "{made.name}"\ngroup = "{group}"\n{more}'
        config = write(directory, api, f'[state]\ndir = "{directory}/state"\n[ingest.kafka]\n{source}')
        with Node(config) as node:
            wait_for(
                lambda: api.stats()["taken_events"] >= expected.delivered or None,
                _TIMEOUT_S,
                lambda: str(api.stats()),
            )
            wait_for(lambda: _is_done(node.status()["ledger"], expected.accepted) or None, _TIMEOUT_S)
            used_s = sum(used_by(node.pid)[:2])
            stop(node)
        if (taken := api.stats()["taken_events"]) != expected.delivered:
            raise RuntimeError(f"{expected.delivered} events are to be delivered, {taken} were")
        return used_s


def _is_done(ledger: Mapping[str, int], accepted: int) -> bool:
    return ledger["accepted"] == accepted and not ledger["in_flight"]
