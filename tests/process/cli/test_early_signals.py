"""Signals in the first moments of a command, in the middle of an import; also as process 1 of a container."""

import shutil
import signal
import subprocess
import sys

import pytest

from tests.each import each
from tests.machine import patience

PROGRAM = """
import os, sys

class Trip:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Trip())
sys.argv = ["ingestd", *{words}]
from ingestd.cli.main import main
main()
"""
WORDS = {
    "run": ["run"],
    "replay": ["replay", "no-such-file", "--api", "http://127.0.0.1:9", "--no-auth"],
    "dlq": ["dlq", "list", "--state-dir", "/nowhere"],
    "check": ["check"],
}


def start(command: str, module: str, number: signal.Signals) -> list[str]:
    return [sys.executable, "-c", PROGRAM.format(module=module, number=int(number), words=WORDS[command])]


def run(command: list[str]) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(30))
    assert done.stdout == ""
    return done.returncode, done.stderr


EARLY = [
    *(("run", "click"), ("run", "uvloop"), ("run", "aiohttp")),
    *(("check", "click"), ("replay", "msgspec"), ("dlq", "sqlite3")),
]


@each(("command", "module"), EARLY)
def test_sigterm_while_something_is_imported_ends_it(command: str, module: str) -> None:
    assert run(start(command, module, signal.SIGTERM)) == (0 if command == "run" else 143, "")


@each(("command", "module"), EARLY[::2])
def test_an_interrupt_while_something_is_imported_is_no_traceback(command: str, module: str) -> None:
    assert run(start(command, module, signal.SIGINT)) == (130, "ingestd: interrupted\n")


@each(
    ("command", "module", "number"),
    [
        ("run", "click", signal.SIGTERM),
        ("run", "uvloop", signal.SIGINT),
        ("replay", "msgspec", signal.SIGTERM),
    ],
)
def test_process_1_of_a_container_hears_them_too(command: str, module: str, number: signal.Signals) -> None:
    alone = ["unshare", "--pid", "--fork", "--kill-child"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this user may make no process 1")
    ends = 130 if number == signal.SIGINT else 0 if command == "run" else 143
    assert run([*alone, *start(command, module, number)])[0] == ends


def test_a_reload_while_something_is_imported_does_not_end_the_service() -> None:
    code, said = run(start("run", "msgspec", signal.SIGHUP))
    assert code == 2
    assert "event API" in said or "api" in said  # it went on, to where it has nothing to send to
