import json
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from tests.integration.lake.support import events_in, unfinished
from tests.machine import patience

KILLS = 4


def start(tmp_path: Path, first: int) -> "subprocess.Popen[str]":
    program = [sys.executable, "-m", "tests.process.lake.writer_process"]
    return subprocess.Popen(
        [*program, tmp_path / "state", tmp_path / "lake", str(first)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def test_kill_9_at_any_moment_leaves_every_event_in_exactly_one_file(tmp_path: Path) -> None:
    """Killed while it gathers, writes, renames and forgets; then started once more and drained."""
    safe: set[int] = set()
    moments = random.Random(4)
    for life in range(KILLS):
        process = start(tmp_path, life * 1_000_000)
        assert process.stdout is not None
        killer = None
        for line in process.stdout:
            if line.endswith("\n"):
                safe.add(int(line))
            if killer is None:  # it is under way
                killer = threading.Timer(moments.uniform(0.01, 0.12), process.kill)
                killer.start()
        process.communicate()
        assert process.returncode == -9
    process = start(tmp_path, KILLS * 1_000_000)
    last, _ = process.communicate("", timeout=patience(30))
    assert process.returncode == 0
    safe |= {int(line) for line in last.split()}
    counts = Counter(int(json.loads(event)["id"]) for event in events_in(tmp_path / "lake"))
    assert set(counts.values()) == {1}
    assert safe <= counts.keys()
    assert len(counts) - len(safe) <= 5 * KILLS  # on disk, and killed before it was said
    assert len(safe) > 5 * KILLS
    assert unfinished(tmp_path / "lake") == []
