"""How many files must be read to follow one event. The figures stand in ``docs/architecture.md``."""

import json
import subprocess
import sys
from typing import Any

from tests.each import each
from tests.machine import patience

BOUNDS = {"replay": (33, 133), "post": (42, 162), "letter": (29, 115), "command": (83, 522)}
"""Files entered, calls from file to file: only ever less. The goal: (25, 110), (30, 120), (35, 200).

``letter`` is from its lease on: as ``replay`` and ``post`` it is of a process that runs. ``command`` is all
that ``dlq retry`` does for one letter, the start included."""


@each("kind", BOUNDS)
def test_one_event_enters_no_more_files_than_this(kind: str) -> None:
    files, calls = BOUNDS[kind]
    found = trace(kind)
    for _ in range(2):  # a timer that runs meanwhile, as on a busy machine, adds what is not the event's
        if found["files"] > files or found["calls"] > calls:
            found = trace(kind)
    print(f"{kind}: {found}")
    assert found["files"] <= files, found
    assert found["calls"] <= calls, found


def trace(kind: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.architecture.way", kind]
    traced = subprocess.run(command, capture_output=True, text=True, timeout=patience(60), check=True)
    found: dict[str, Any] = json.loads(traced.stdout.splitlines()[-1])
    return found
