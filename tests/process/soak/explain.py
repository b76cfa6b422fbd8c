"""Why events of a group came out of order: the requests with those where the order breaks, and the kills."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.process.soak.api import SinkApi

MOST_LINES = 60


def explain(requests: Path, sink: SinkApi, where: Callable[[str], str] = lambda event: "") -> list[str]:
    """``requests``: the journal of the API. ``where``: an event stood in its source. Of a group the events on
    both sides of its first break, and those that came late with it, three at most."""
    told: list[str] = []
    for group, numbers in sink.order.items():
        breaks = [at for at in range(1, len(numbers)) if numbers[at] < numbers[at - 1]]
        if not breaks:
            continue
        first = breaks[0]
        before = f"{group}.{numbers[first - 1]}"
        late = [f"{group}.{number}" for number in numbers[first : first + 3] if number < numbers[first - 1]]
        told += [
            f"{one} {what}: {where(one)}"
            for one, what in [(before, "came first"), *((one, "was late") for one in late)]
        ]
        told += _lines(requests, {before, *late})
    return told[:MOST_LINES]


def _lines(requests: Path, events: set[str]) -> list[str]:
    """Of these events, and the kills from the first of them to the last."""
    found: list[str] = []
    kills: list[str] = []
    with requests.open() as lines:
        for line in map(json.loads, lines):
            mine = sorted(events.intersection(line["events"]))
            who = f"  {line['at']:.3f} {line['member'] or 'first member'}"
            if line["outcome"] == "KILL" and found:
                kills.append(f"{who} was killed")
            elif mine:
                what = f"{len(line['events'])} events with {', '.join(mine)}: {line['outcome']}"
                found += [*kills, f"{who}, key {line['key']}, {what}"]
                kills = []
    return found
