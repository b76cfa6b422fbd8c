"""What transforms cost: ``python -m benchmarks.transforms`` prints µs of CPU per event, also of a replay.

A replay is compared with one of the same file to the same sink without steps; it also writes what it sends.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

from benchmarks import scenarios
from benchmarks.events import Input, prepare
from benchmarks.filters import best_ns
from ingestd.core.transform_section import TransformConfig
from ingestd.processing.transforms.program import Program, StepSettings, compile_steps

RENAME = {"rename": {"interactionId": "conversation.id"}}
REDACT = {"redact": ["attributes.note"]}
STEPS: dict[str, list[dict[str, Any]]] = {
    "rename and redact": [RENAME, REDACT],
    "drop, by a pattern that none matches": [{"drop": True, "when": {"eventType": ["test"]}}],
    "keep two fields": [{"keep": ["interactionId", "attributes.note"]}],
    "text template": [{"template": {"title": "{eventType} in {routingMetadata.queueId}"}}],
    "jq, one field": [{"jq": ".attributes.source = 1"}],
}
_CHUNK_EVENTS = 500
_SINK = '[sinks.one]\ntype = "ingest_api"\n'
_TOML = (
    '[[sinks.one.transforms]]\nrename = {{interactionId = "conversation.id"}}\n'
    '[[sinks.one.transforms]]\nredact = ["attributes.note"]\n'
)


def program(tables: list[Mapping[str, Any]]) -> Program:
    steps = [StepSettings("step", TransformConfig(**table), b"key") for table in tables]
    made = compile_steps(steps, max_event_bytes=500_000)
    assert made
    return made


def in_process(events: list[bytes], tables: list[Mapping[str, Any]]) -> float:
    """µs of CPU per event."""
    made = program(tables)
    chunks = [events[at : at + _CHUNK_EVENTS] for at in range(0, len(events), _CHUNK_EVENTS)]

    def work() -> None:
        for chunk in chunks:
            made.run(chunk)

    return best_ns(work, events=len(events), repeats=5) / 1e3


def replay(given: Input, check: scenarios.Check, toml: str) -> float:
    run = scenarios.run_replay(
        "replay", given, receiver=("--count",), check=check, timeout_s=600, sinks=_SINK + toml
    )
    if run.faults:
        raise RuntimeError("; ".join(run.faults))
    return run.cpu_s / run.events * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transforms", description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, metavar="N", help="(default: 200,000)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of the replay (default: 5)")
    chosen = parser.parse_args()
    given = prepare(chosen.events)
    lines = given.path.read_bytes().splitlines()[:20_000]
    events = [line for line in lines if line.startswith(b"{")]
    for name, tables in STEPS.items():
        print(f"{name}: {in_process(events, list(tables)):.1f} µs an event")
    measured: Callable[[str], float] = partial(replay, given, scenarios.check_delivered)
    pairs = [(measured(""), measured(_TOML)) for _ in range(chosen.rounds)]
    plain, changed = (median(column) for column in zip(*pairs, strict=True))
    print(f"replay: {plain:.2f} µs an event; with rename and redact {changed:.2f}")


if __name__ == "__main__":
    main()
