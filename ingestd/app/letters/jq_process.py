"""An expression of jq, run in a process of its own: ``jq_child.py`` says what it cannot reach.

In this process an expression without an end would stop everything, since jq holds the interpreter, and one
from the console could read the environment and files.
"""

import json
import os
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ingestd.core.errors import UserError
from ingestd.core.text import cut

_KEPT = ("LD_LIBRARY_PATH", "TZ")
"""Of the environment: what the interpreter needs to start, and jq for local times."""


class JqLimits(NamedTuple):
    """``cpu_s``: seconds of CPU for one event. ``memory_bytes``: of the whole process. ``kills``: how often
    it is started again."""

    cpu_s: float = 5
    memory_bytes: int = 512 * 1024 * 1024
    kills: int = 5


DEFAULT_LIMITS = JqLimits()


class JqProcess:
    """``run`` may be called until ``close``. Starts the process; raises UserError where jq is not installed,
    or does not understand the expression."""

    def __init__(self, expression: str, limits: JqLimits) -> None:
        if find_spec("jq") is None:
            raise UserError("--edit-with needs jq: pip install 'ingestd[jq]'")
        self._expression = expression
        self._limits = limits
        self._kills = 0
        self._start()

    def run(self, text: bytes) -> tuple[str, str]:
        """(the JSON text as jq writes it, what the expression makes of it: values, one a line). Raises
        ValueError, in words: jq cannot do it, or not within the limits."""
        limits = self._limits
        if self._kills >= limits.kills:
            raise ValueError(f"not tried: the expression went past its limits {limits.kills} times")
        if self._process.poll() is not None:
            self._start()
        answer = self._ask(text)
        if answer is None:
            self._kills += 1
            self._end()
            raise ValueError(
                f"the expression was ended: it takes more than {limits.cpu_s:g} s of CPU for this event,"
                f" or {limits.memory_bytes >> 20} MB of memory"
            )
        done, *words = json.loads(answer)
        if not done:
            raise ValueError(words[0])
        return words[0], words[1]

    def close(self) -> None:
        self._end()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - an interpreter, and a file beside this one
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("jq_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            cwd="/",
            start_new_session=True,  # an interrupt is for this process, which then ends that one
        )
        limits = self._limits
        begin = {
            "paths": sys.path,
            "expression": self._expression,
            "cpu_s": limits.cpu_s,
            "memory": limits.memory_bytes,
        }
        refusal = self._ask(json.dumps(begin).encode())
        if refusal == b"":
            return
        self._end()
        words = "it cannot be read within the limits" if refusal is None else refusal.decode()
        first, _, _ = words.partition("\n")  # then the expression, with a mark
        raise UserError(f"--edit-with: {cut(first.rstrip(':'))}")

    def _ask(self, message: bytes) -> bytes | None:
        """The answer; None: the process has ended."""
        to, answers = self._process.stdin, self._process.stdout
        assert to is not None
        assert answers is not None
        try:
            to.write(struct.pack(">I", len(message)) + message)
            to.flush()
        except BrokenPipeError:
            return None
        head = answers.read(4)
        if len(head) < 4:
            return None
        size = struct.unpack(">I", head)[0]
        answer = answers.read(size)
        return answer if len(answer) == size else None

    def _end(self) -> None:
        self._process.kill()
        with self._process:  # closes its pipes, and waits for it
            pass
