"""``ingestd`` for the shells of the pages, without an import for each command.

``Warm`` starts one process that has imported all of ``ingestd``, and makes an executable ``ingestd`` that has
it fork for each call: real processes, each with arguments, directory, environment, pipes, signals and exit
code of its own. That each command imports what it needs is tested elsewhere, in ``tests/process``.
"""

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import ingestd

_CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
conn = socket.socket(socket.AF_UNIX)
conn.connect({socket!r})
words = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(conn, [len(words).to_bytes(4, "big")], [0, 1, 2])
conn.sendall(words)
pid = int.from_bytes(conn.recv(4), "big")
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: os.kill(pid, number))
os._exit(int.from_bytes(conn.recv(4) or b"\\x01", "big"))
"""


class Warm:
    """``directory``: for the socket and the executable, ``directory / "ingestd"``."""

    def __init__(self, directory: Path) -> None:
        path = str(directory / "s")
        executable = directory / "ingestd"
        executable.write_text(_CLIENT.format(python=sys.executable, socket=path))
        executable.chmod(0o755)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.docs.warm", path],
            stdout=subprocess.PIPE,
            env=clean,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        """Ends all that was forked, too."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


def _serve(path: str) -> int | None:
    """Returns in the process of a command, with None, and nowhere else."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    os.write(1, b"ready\n")
    while True:
        conn, _ = listener.accept()
        if os.fork():
            conn.close()
            _reap()
            continue
        listener.close()
        return _handle(conn)


def _reap() -> None:
    """Those that have ended: what they cost is then part of what the run of the tests cost."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _handle(conn: socket.socket) -> int | None:
    """One process waits for the other, which is the command."""
    size, given, _, _ = socket.recv_fds(conn, 4, 3)
    data = b""
    while len(data) < int.from_bytes(size, "big"):
        data += conn.recv(1 << 20)
    words, directory, environment = json.loads(data)
    if pid := os.fork():
        conn.sendall(pid.to_bytes(4, "big"))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        conn.sendall((code if code >= 0 else 128 - code).to_bytes(4, "big"))
        os._exit(0)
    conn.close()
    for number, fd in enumerate(given):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ingestd", *words]
    return None


def _import_all() -> None:
    for module in pkgutil.walk_packages(ingestd.__path__, "ingestd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _call() -> int:
    from ingestd.cli.main import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else bool(end.code)
    return 0


if __name__ == "__main__":
    _import_all()
    gc.freeze()  # forks share what is there
    _serve(sys.argv[1])
    code = _call()
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # an interpreter's end would take all modules apart
