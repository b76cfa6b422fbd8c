"""A run of pytest within a test, in a directory of its own."""

import os
import subprocess
import sys
from pathlib import Path

from tests import machine
from tests.machine import patience

_ROOT = Path(__file__).parents[2]


def inner_run(directory: Path, *options: str, wait_s: float) -> "subprocess.CompletedProcess[str]":
    """With no plugins but those that ``options`` name, on a machine that counts as a fast one. ``wait_s``: at
    most, on the reference machine."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rf", *options],
        cwd=directory,
        env={
            **os.environ,
            "PYTHONPATH": str(_ROOT),
            machine.VARIABLE: "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_ADDOPTS": "",
        },
        capture_output=True,
        text=True,
        timeout=patience(wait_s),
        check=False,
    )
