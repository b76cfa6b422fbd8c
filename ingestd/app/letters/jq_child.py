"""The process that runs one expression of jq for ``jq_process.py``, which starts this file by its path.

An expression may come from the console, so from somebody who may change dead letters and nothing else. It
finds nothing here: no environment, no file that it could open, and limits of CPU and memory. Imports nothing
of ``ingestd``, since it is started without its paths.

Both ways a message is its length (4 bytes, big-endian) and as many bytes. First come limits, paths and the
expression, in JSON; the answer is empty, or says why it is none. Then each message is a JSON text, and the
answer is ``[true, the text as jq writes it, what the expression makes of it]``, or ``[false, why not]``.
"""

import json
import resource
import signal
import struct
import sys
from contextlib import suppress
from typing import Any

MOST_MADE = 16 * 1024 * 1024
"""Characters that are given back; no sink takes an event as long."""


def main() -> None:
    begin = json.loads(_read() or b"{}")
    sys.path[:] = begin["paths"]
    try:
        import jq
    except ImportError:
        _write("jq is not installed")
        return
    # what is imported is open; nothing else can be from here on, so import and include find nothing
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (begin["memory"], begin["memory"]))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # whatever was inherited
    _grant(begin["cpu_s"])
    try:
        program, identity = jq.compile(begin["expression"]), jq.compile(".")
    except ValueError as error:
        _write(str(error))
        return
    _write("")
    while text := _read():
        _grant(begin["cpu_s"])
        _write(json.dumps(_run(program, identity, text.decode())))


def _run(program: Any, identity: Any, text: str) -> tuple[bool, str, str] | tuple[bool, str]:
    try:
        same, made = identity.input_text(text).text(), program.input_text(text).text()
    except ValueError as error:
        return False, str(error)
    if len(made) > MOST_MADE:
        return False, f"the expression makes more than {MOST_MADE >> 20} MB of it"
    return True, same, made


def _grant(cpu_s: float) -> None:
    """The kernel ends this process after ``cpu_s`` more seconds of CPU: nothing here handles that signal."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)


def _read() -> bytes:
    """The next message; empty at the end."""
    head = sys.stdin.buffer.read(4)
    return sys.stdin.buffer.read(*struct.unpack(">I", head)) if len(head) == 4 else b""


def _write(words: str) -> None:
    made = words.encode()
    sys.stdout.buffer.write(struct.pack(">I", len(made)) + made)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
