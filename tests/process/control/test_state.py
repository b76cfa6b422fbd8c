"""A process that is killed while it writes the state of the control plane."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from ingestd.control.engine.state_file import open_state
from tests.integration.control.test_state import BASE


def test_a_process_that_is_killed_while_it_writes_leaves_a_whole_file(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from ingestd.control.engine.state_file import open_state
with open_state(Path({str(tmp_path)!r}), {BASE!r}, change=True) as state:
    print("ready", flush=True)
    while True:
        state.begin_revision({{"target": {{"a": {{"x": "y" * 20000}}}}}}, {{}})
        state.save()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        while not (tmp_path / "control.json").exists():
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with open_state(tmp_path, BASE, change=True) as state:
        assert state.revision >= 1
        assert state.revisions[-1].number == state.revision
