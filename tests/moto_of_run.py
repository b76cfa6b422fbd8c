"""One moto server for all workers of a run, a plugin of pytest: see ``tests/aws.py``.

It imports moto, which takes a second, when the first test asks it for something.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

VARIABLE = "TESTS_MOTO"
"""The port of the one that serves all workers of a run."""


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", None) and not config.getoption("cost"):
        port, close = start()
        os.environ[VARIABLE] = str(port)
        config.add_cleanup(close)


def start() -> tuple[int, Callable[[], object]]:
    """Its port, and what ends it; it ends with this process, too."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        port, fd = listener.getsockname()[1], listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.moto_server", str(port), str(fd)],
            stdin=subprocess.PIPE,
            pass_fds=[fd],
            cwd=Path(__file__).parents[1],
        )
    return port, process.communicate  # closes its standard input, and waits
