"""Standard error that takes no more lines, of processes that write their log to it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.each import each
from tests.machine import patience


def run(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    source = "from ingestd.telemetry import log\n" + code
    return subprocess.run([sys.executable, "-c", source], text=True, timeout=patience(30), **options)


def burst(lines: int) -> str:
    """Some 12 kB a line, each of a template of its own."""
    return f"""
log.configure("json", "info")
for n in range({lines}):
    log.warning(chr(256 + n) * 3000)
print("lived")
"""


def test_a_full_disk_costs_lines_but_not_the_process() -> None:
    with Path("/dev/full").open("w") as full:
        done = run(burst(50), stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (0, "lived\n")


def test_a_reader_that_went_away_costs_lines_but_not_the_process() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(burst(50), stdout=subprocess.PIPE, stderr=writer, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stdout) == (0, "lived\n")


@each("close", ["os.close(2)", "sys.stderr.close()", "sys.stderr = None"])
def test_a_closed_standard_error_costs_lines_but_not_the_process(close: str) -> None:
    code = f"import os, sys\n{close}\n{burst(50)}\n"
    done = run(code, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stdout) == (0, "lived\n")


def test_a_reader_that_stopped_reading_does_not_stop_the_process() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as left:
        with os.fdopen(writer, "wb") as stderr:
            done = run(burst(200), stdout=subprocess.PIPE, stderr=stderr, check=False)
        *whole, torn = left.read().split(b"\n")
    assert (done.returncode, done.stdout) == (0, "lived\n")
    assert [len(json.loads(line)["message"]) for line in whole] == [2_000] * len(whole)
    assert whole
    assert torn
