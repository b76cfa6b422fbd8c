"""What routing by patterns costs: ``python -m benchmarks.filters`` prints ns of CPU per event.

Four sinks with ten clauses together, on the benchmarks' events, beside what else has to be done to an event:
the baseline's work, which is to split lines and join them to bodies, and the check of the schema.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.baseline import read_batches
from benchmarks.events import prepare
from ingestd.processing.routes import compile as compile_routes
from ingestd.schemas.interaction import InteractionSchema

PATTERNS: dict[str, dict[str, Any]] = {
    "live": {
        "eventType": [{"prefix": "routing.interaction."}],
        "routingMetadata": {"actionType": ["ANSWER", "TRANSFER"], "skill": [{"anything-but": "billing"}]},
    },
    "urgent": {
        "attributes": {"priority": [{"numeric": [">=", 7]}], "customer_segment": ["enterprise", "consumer"]},
        "schemaVersion": [2, 3],
    },
    "spanish": {
        "$or": [{"routingMetadata": {"skill": [{"suffix": "-spanish"}]}}, {"attributes": {"lang": ["es"]}}]
    },
    "slow": {
        "attributes": {"wait_seconds": [{"numeric": [">", 120]}], "note": [{"wildcard": "*call*back*"}]},
    },
}
_CHUNK_EVENTS = 500
_JOINED_EVENTS = 100
"""A body of 500 kB at once would measure how the C library gives memory back: 300 or 800 ns, by chance."""


def best_ns(work: Callable[[], object], *, events: int, repeats: int) -> float:
    """ns of CPU per event, of the quickest run."""
    spent = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent) / events * 1e9


def measure(count: int, *, repeats: int) -> dict[str, float]:
    path = prepare(count).path
    events = path.read_bytes().splitlines()
    chunks = [events[at : at + _CHUNK_EVENTS] for at in range(0, count, _CHUNK_EVENTS)]
    routes = compile_routes(PATTERNS)
    schema = InteractionSchema()
    # An array where the patterns want a value: the quick pass leaves such an event to the exact one.
    odd = [chunk[:-20] + [b'{"attributes":{"note":["a","call me back"]}}'] * 20 for chunk in chunks]

    def over(each: Callable[[Sequence[bytes]], object], over_chunks: list[list[bytes]]) -> float:
        def work() -> None:
            for chunk in over_chunks:
                each(chunk)

        return best_ns(work, events=count, repeats=repeats)

    def baseline() -> None:
        for batch in read_batches(path):
            for at in range(0, len(batch), _JOINED_EVENTS):
                b",".join(batch[at : at + _JOINED_EVENTS])

    return {
        "baseline": best_ns(baseline, events=count, repeats=repeats),
        "schema": over(schema.keys, chunks),
        "routes": over(routes.route, chunks),
        "routes, 4 % of events with arrays": over(routes.route, odd),
        "routes, no patterns": over(compile_routes({"only": {}}).route, chunks),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="ns per event of routing by patterns.")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", dest="as_json")
    chosen = parser.parse_args()
    found = measure(chosen.events, repeats=chosen.repeats)
    if chosen.as_json:
        print(json.dumps({"ns_per_event": found}))
        return
    for name, ns in found.items():
        print(f"{name:<36} {ns:7.0f} ns/event   {ns / found['baseline']:6.2f} x baseline")


if __name__ == "__main__":
    main()
