"""``make bench-cluster``: edges, workers and their broker against one process, and sources at brokers.

What compares takes turns for ``--rounds`` rounds; each figure is the median of them, with lowest and highest.
Every event has to be answered with 202, to reach the receiver once, and to have its end; anything else ends
the benchmark.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from statistics import median
from typing import NamedTuple

from benchmarks import cluster_process as processes
from benchmarks.cluster_kafka import EVENTS, ratios
from benchmarks.cluster_process import System
from benchmarks.cluster_sources import SOURCES, events_per_cpu_s
from benchmarks.processes import Receiver
from benchmarks.serve import LOADS
from benchmarks.serve_load import Load, Running, prepare_load
from benchmarks.serve_process import used_by

_SETTLE_S, _LOOK_S = 120.0, 0.3
_PACED = Load(connections=4, batch=10, rate=2_000)
_PARTITIONS = 4
PARTS = ("edge", "worker", "broker", "supervisor")
ONE = "one process"


class Cost(NamedTuple):
    """µs of CPU an event by part. ``accepted_per_s``: while the load lasted; ``through_per_s``: until the
    last event was delivered."""

    accepted_per_s: float
    through_per_s: float
    parts: dict[str, float]

    @property
    def all_us(self) -> float:
        """Of what is ours: without load and receiver."""
        return sum(us for name, us in self.parts.items() if name not in ("load", "receiver"))


Opened = Callable[[Receiver], AbstractContextManager[System]]

ROWS: dict[str, Opened] = {
    ONE: processes.one_process,
    "edge + worker, 1 partition": partial(processes.edge_and_worker, partitions=1),
    "edge + worker, 4 partitions": partial(processes.edge_and_worker, partitions=4),
    "workers = 2": processes.one_machine,
}


def cost_of(opened: Opened, load: Load, seconds: float) -> Cost:
    """Raises RuntimeError where an event was not answered for, not delivered, or twice."""
    with Receiver("--count") as api, opened(api) as system:
        api_before, before, began = sum(used_by(api.pid)[:2]), system.used_s(), time.monotonic()
        loaded = Running(load, port=system.port, seconds=seconds).wait()

        def all_taken() -> bool | None:
            return api.stats()["taken_events"] >= loaded.events or None

        processes.wait_for(all_taken, _SETTLE_S, lambda: str(api.stats()))
        took_s = time.monotonic() - began
        # Each look at its status costs a worker a millisecond: few of them, they are no part of the work.
        processes.wait_for(lambda: system.in_flight() == 0 or None, _SETTLE_S, every_s=_LOOK_S)
        used = {name: used_s - before.get(name, 0.0) for name, used_s in system.used_s().items()}
        used |= {"load": loaded.cpu_seconds, "receiver": sum(used_by(api.pid)[:2]) - api_before}
        if loaded.statuses.keys() - {"202"}:
            raise RuntimeError(f"answers: {loaded.statuses}")
        if (taken := api.stats()["taken_events"]) != loaded.events:
            raise RuntimeError(f"{loaded.events} events were answered for, {taken} delivered")
    per_event = {name: used_s / loaded.events * 1e6 for name, used_s in used.items()}
    return Cost(loaded.events / loaded.seconds, loaded.events / took_s, per_event)


def take_over_s() -> float:
    """From kill -9 of one of two workers until the other has all shares, and has delivered of each."""
    with (
        Receiver("--count") as api,
        processes.cluster(api, _PARTITIONS) as (config, _),
        processes.Node(config, "--edge") as edge,
        processes.worker(config) as first,
        processes.worker(config) as second,
    ):
        processes.wait_for(lambda: _half_each(first, second), _SETTLE_S)
        load = Running(_PACED, port=edge.port, seconds=12)
        processes.wait_for(lambda: api.stats()["taken_events"] > _PACED.rate or None, _SETTLE_S)
        own = {one["partition"] for one in second.status()["shares"]}
        at_first: dict[str, int] = {}
        first.kill()
        died = time.monotonic()
        processes.wait_for(lambda: _goes_on(second, own, at_first), _SETTLE_S)
        took_s = time.monotonic() - died
        events = load.wait().events
        processes.wait_for(lambda: processes.waiting(second.status()["shares"], _PARTITIONS) == 0 or None, 60)
        # What was on its way when the worker died is repeated under its key, and this receiver knows no keys.
        if (taken := api.stats()["taken_events"]) < events:
            raise RuntimeError(f"{events} events were answered for, {taken} delivered")
        return took_s


def _half_each(*workers: processes.Node) -> bool | None:
    return all(len(one.status()["shares"]) == _PARTITIONS // len(workers) for one in workers) or None


def _goes_on(node: processes.Node, own: set[str], at_first: dict[str, int]) -> bool | None:
    shares = {one["partition"]: one["ledger"]["delivered"] for one in node.status()["shares"]}
    new = {name: delivered for name, delivered in shares.items() if name not in own}
    for name, delivered in new.items():
        at_first.setdefault(name, delivered)
    done = [name for name, delivered in new.items() if delivered > at_first[name]]
    return len(own) + len(done) == _PARTITIONS or None


def start_s() -> tuple[float, int, int]:
    """Until all is ready; and idle, RSS and PSS of all its processes in bytes."""
    with Receiver() as api:
        began = time.monotonic()
        with processes.machine(api) as node:
            processes.wait_for(lambda: node.status()["ready"] or None, 60)
            took_s = time.monotonic() - began
            time.sleep(3)  # idle is what it is then
            pids = [node.pid, *(one["pid"] for one in node.status()["processes"])]
            return took_s, processes.memory_bytes(pids, "Rss"), processes.memory_bytes(pids, "Pss")


def compared(seconds: float, rounds: int) -> Iterator[str]:
    """Lines of a table; a ratio is that of a round."""
    prepare_load()
    found: defaultdict[str, list[Cost]] = defaultdict(list)
    for number in range(rounds):
        names = [*ROWS] if number % 2 == 0 else [*ROWS][::-1]
        for name in names:
            say(f"round {number + 1}: {name}")
            found[name].append(cost_of(ROWS[name], LOADS["ndjson"], seconds))
    yield _row("what", "events/s", "÷ one process", *PARTS, "all", "load", "receiver")
    yield "|---" + "|---:" * (5 + len(PARTS)) + "|"
    ones = found[ONE]
    for name, costs in found.items():
        speed = [cost.through_per_s / one.through_per_s for cost, one in zip(costs, ones, strict=True)]
        cells = [f"{median(cost.through_per_s for cost in costs):,.0f}", _spread(speed)]
        for part in PARTS:
            ratios = [
                cost.parts[part] / one.all_us
                for cost, one in zip(costs, ones, strict=True)
                if part in cost.parts
            ]
            cells.append(_spread(ratios) if ratios else "")
        cells.append(_spread([cost.all_us / one.all_us for cost, one in zip(costs, ones, strict=True)]))
        cells += [
            _spread([cost.parts[part] / one.all_us for cost, one in zip(costs, ones, strict=True)])
            for part in ("load", "receiver")
        ]
        yield _row(name, *cells)
    us = [cost.all_us for cost in ones]
    yield f"\nFrom `edge` on: ÷ CPU per event of one process, which was {_spread(us)} µs. Medians, lowest to"
    yield f"highest, of {rounds} rounds of {seconds:g} s; 16 connections, 100 events a request.\n"


def others(rounds: int) -> Iterator[str]:
    yield _row("what", "median", "lowest to highest")
    yield "|---|---:|---:|"
    for name in SOURCES:
        say(f"source: {name}")
        rates = events_per_cpu_s(name, rounds)
        if rates:
            yield _row(f"{name}, one event a message: events per CPU-second", *_told(rates, "{:,.0f}"))
        else:
            yield _row(f"{name}: not measured, there is no broker", "", "")
    yield from behind_kafka(rounds)
    say("take-over")
    yield _row(
        "take-over after kill -9 of a worker, s", *_told([take_over_s() for _ in range(rounds)], "{:.2f}")
    )
    say("start")
    starts = [start_s() for _ in range(rounds)]
    yield _row("`workers = 2`, start to ready, s", *_told([one[0] for one in starts], "{:.2f}"))
    yield _row("… idle, sum of RSS, MB", *_told([one[1] / 1e6 for one in starts], "{:.0f}"))
    yield _row(
        "… idle, what is shared counted once (PSS), MB", *_told([one[2] / 1e6 for one in starts], "{:.0f}")
    )


def behind_kafka(rounds: int) -> Iterator[str]:
    """Lines of the same table."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    replays: list[float] = []
    for shape, ratio, replay_us in ratios(rounds):
        say(f"behind Kafka, {shape}: {ratio:.2f} of a replay of {replay_us:.2f} µs")
        found[shape].append(ratio)
        replays.append(replay_us)
    for shape, figures in found.items():
        yield _row(f"`run` behind Kafka, {shape}: CPU ÷ replay", *_told(figures, "{:.2f}"))
    if replays:
        yield _row(f"… replay of these {EVENTS:,} events, µs an event", *_told(replays, "{:.2f}"))


def _told(figures: list[float], shape: str) -> tuple[str, str]:
    return shape.format(median(figures)), f"{shape.format(min(figures))} to {shape.format(max(figures))}"


def _spread(figures: list[float]) -> str:
    return f"**{median(figures):.2f}** ({min(figures):.2f}-{max(figures):.2f})"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def say(text: str) -> None:
    print(f"{text} …", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="(default: 5)")
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="of each load (default: 5)")
    parser.add_argument("--only", choices=("load", "others", "kafka"), help="one table, or Kafka's rows")
    chosen = parser.parse_args()
    if chosen.only == "kafka":
        print("\n".join(behind_kafka(chosen.rounds)), flush=True)
        return
    if chosen.only != "others":
        for line in compared(chosen.seconds, chosen.rounds):
            print(line, flush=True)
    if chosen.only != "load":
        for line in others(chosen.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
