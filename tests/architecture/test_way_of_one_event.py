"""How many files must be read to follow one event. The figures stand in ``docs/architecture.md``."""

import json
import subprocess
import sys

import pytest

from tests.machine import patience

BOUNDS = {"replay": (70, 230), "post": (80, 240), "letter": (100, 660)}
"""Files entered, calls from file to file: only ever less. The goal: (25, 110), (30, 120), (35, 200)."""


@pytest.mark.parametrize("kind", BOUNDS)
def test_one_event_enters_no_more_files_than_this(kind: str) -> None:
    command = [sys.executable, "-m", "tests.architecture.way", kind]
    traced = subprocess.run(command, capture_output=True, text=True, timeout=patience(60), check=True)
    found = json.loads(traced.stdout.splitlines()[-1])
    print(f"{kind}: {found}")
    files, calls = BOUNDS[kind]
    assert found["files"] <= files, found
    assert found["calls"] <= calls, found
