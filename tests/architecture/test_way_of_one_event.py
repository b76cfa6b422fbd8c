"""How many files must be read to follow one event. The figures stand in ``docs/architecture.md``."""

import json
import subprocess
import sys
from typing import Any

from tests.machine import patience

BOUNDS = {"replay": (25, 98), "post": (30, 117), "letter": (24, 82), "command": (81, 496)}
"""Files entered, calls from file to file. The goal: (25, 110), (30, 120), (35, 200).

``letter`` is from its lease on: as ``replay`` and ``post`` it is of a process that runs. ``command`` is all
that ``dlq retry`` does for one letter, the start included."""


def test_one_event_enters_no_more_files_than_this() -> None:
    kinds = list(BOUNDS)[::-1]  # the whole command first: what others have cached would be missing in it
    found = trace(kinds)
    for _ in range(2):  # a timer that runs meanwhile, as on a busy machine, adds what is not the event's
        found |= trace([kind for kind in kinds if is_over(kind, found[kind])])
    print(found)
    assert {kind: told for kind, told in found.items() if is_over(kind, told)} == {}


def is_over(kind: str, found: dict[str, Any]) -> bool:
    files, calls = BOUNDS[kind]
    return bool(found["files"] > files or found["calls"] > calls)


def trace(kinds: list[str]) -> dict[str, dict[str, Any]]:
    if not kinds:
        return {}
    command = [sys.executable, "-m", "tests.architecture.way", *kinds]
    traced = subprocess.run(command, capture_output=True, text=True, timeout=patience(60), check=True)
    lines = [json.loads(line) for line in traced.stdout.splitlines() if line.startswith('{"files"')]
    return dict(zip(kinds, lines, strict=True))
