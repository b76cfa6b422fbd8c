"""``ingestd`` as a process, without an import for each command.

``Warm`` starts one process that has imported all of ``ingestd`` and forks for each call: real processes, each
with arguments, directory, environment, pipes, signals and exit code of its own. ``start`` is for tests, the
executable ``ingestd`` that it makes for the shells of the pages. That each command imports what it needs, and
that an interpreter ends quietly, is what ``tests/process/cli/test_cold.py`` tests.

A plugin of pytest: where several workers run tests beside each other, one process serves them all. Under
``--cost`` each has its own, so that what commands cost is a cost of their test.
"""

import asyncio
import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import pytest

VARIABLE = "TESTS_WARM"
"""The directory of the one that serves all workers of a run."""
_ROOT = Path(__file__).parents[1]
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
code = int.from_bytes(conn.recv(4) or b"\\x01", "big", signed=True)
os._exit(code if code >= 0 else 128 - code)
"""


class Warm:
    """``directory``: for the socket and the executable, ``directory / "ingestd"``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = str(directory / "s")

    async def start(
        self,
        words: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int | None = None,
        stdout: bool = True,
        limit: int = 1024 * 1024,
    ) -> "WarmProcess":
        """A command. What it writes to ``stdout``, if that is wanted, and ``stderr`` is read by a stream."""
        conn = socket.socket(socket.AF_UNIX)
        conn.connect(self._path)
        out = os.pipe() if stdout else None
        err = os.pipe()
        nothing = os.open(os.devnull, os.O_RDWR)
        given = [nothing if stdin is None else stdin, out[1] if out else nothing, err[1]]
        data = json.dumps([words, os.getcwd(), dict(env)]).encode()
        socket.send_fds(conn, [len(data).to_bytes(4, "big")], given)
        conn.sendall(data)
        for fd in (nothing, err[1], *(out[1:] if out else ())):
            os.close(fd)
        process = WarmProcess(int.from_bytes(conn.recv(4), "big"), conn)
        process.stdout = await _reader(out[0], limit) if out else None
        process.stderr = await _reader(err[0], limit)
        return process


class WarmServer:
    """Ends all that was forked when it is closed, and when the process ends that has it. ``beside``: the
    ``ingestd`` of that directory instead of ours. ``module``: what is to ``serve`` instead of this one, with
    ``words``."""

    def __init__(
        self, directory: Path, *, beside: Path = _ROOT, module: str = "tests.warm", words: Sequence[str] = ()
    ) -> None:
        path = str(directory / "s")
        executable = directory / "ingestd"
        executable.write_text(_CLIENT.format(python=sys.executable, socket=path))
        executable.chmod(0o755)
        given = filter(None, [os.environ.get("PYTHONPATH")])  # plugins of pytest, for one
        clean = {name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", module, path, *words],
            stdin=subprocess.PIPE,  # its end is the end of all that was forked, however this process ends
            stdout=subprocess.PIPE,
            env=clean | {"PYTHONPATH": os.pathsep.join([str(_ROOT), *given])},
            cwd=beside,
            start_new_session=True,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


class WarmProcess:
    """As ``asyncio.subprocess.Process``, of which it has what the tests use."""

    def __init__(self, pid: int, conn: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._ended = asyncio.ensure_future(self._end(conn))

    async def _end(self, conn: socket.socket) -> int:
        conn.setblocking(False)
        with conn:
            code = await asyncio.get_running_loop().sock_recv(conn, 4)
        self.returncode = int.from_bytes(code, "big", signed=True)
        return self.returncode

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def communicate(self) -> tuple[bytes, bytes]:
        assert self.stderr
        reading = [self.stdout.read() if self.stdout else _nothing(), self.stderr.read()]
        out, err = await asyncio.gather(*reading)
        await self.wait()
        return out, err


async def _nothing() -> bytes:
    return b""


async def _reader(fd: int, limit: int) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit, loop=loop)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader, loop=loop), os.fdopen(fd, "rb"))
    return reader


@cache
def warm() -> Warm:
    """The one of this run, or of this process."""
    if shared := os.environ.get(VARIABLE):
        return Warm(Path(shared))
    directory, close = open_server()
    atexit.register(close)
    return Warm(directory)


def open_server(**given: Any) -> tuple[Path, Callable[[], None]]:
    """Its directory, and what closes it."""
    directory = tempfile.TemporaryDirectory(prefix="ingestd-")  # short: the path of a socket
    server = WarmServer(Path(directory.name), **given)

    def close() -> None:
        server.close()
        directory.cleanup()

    return Path(directory.name), close


def pytest_configure(config: "pytest.Config") -> None:
    if getattr(config.option, "numprocesses", None) and not config.getoption("cost"):
        directory, close = open_server()
        os.environ[VARIABLE] = str(directory)
        config.add_cleanup(close)


def serve(path: str, import_all: Callable[[], None]) -> list[str]:
    """Returns in the process of a command, and nowhere else: its words."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(256)
    os.write(1, b"ready\n")
    watched: list[Any] = [0, listener]
    select.select(watched, [], [])  # a run may start no command at all
    import_all()
    gc.freeze()  # forks share what is there
    running: dict[int, tuple[int, socket.socket]] = {}  # by a descriptor that can be read at its end
    asked: dict[socket.socket, int] = {}  # by who waits for it
    while True:
        ready = select.select([*watched, *running, *asked], [], [])[0]
        if 0 in ready:
            os.killpg(0, signal.SIGKILL)
        for conn in asked.keys() & set(ready):  # nobody waits any more, as a worker that was ended
            with suppress(ProcessLookupError):
                os.kill(asked.pop(conn), signal.SIGKILL)
        for ended in running.keys() & set(ready):
            os.close(ended)
            pid, conn = running.pop(ended)
            asked.pop(conn, None)
            _tell_end(pid, conn)
        if listener in ready:
            conn, _ = listener.accept()
            with suppress(OSError, ValueError):  # who asked is gone
                request, given = _receive(conn)
                pid = os.fork()
                if not pid:
                    for one in (listener, conn, *(conn for _, conn in running.values())):
                        one.close()
                    for ended in running:
                        os.close(ended)
                    return _become(request, given)
                for fd in given:
                    os.close(fd)
                running[os.pidfd_open(pid)] = pid, conn
                asked[conn] = pid
                conn.sendall(pid.to_bytes(4, "big"))


def _take_large_pages() -> None:
    """For what is in memory now: a fork, and its end, cost a quarter less. Only where the system can do it,
    Linux from 6.1 on; otherwise nothing changes."""
    with suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for line in Path("/proc/self/maps").read_text().splitlines():
            place, rights, *_, name = line.split(maxsplit=5)
            if rights == "rw-p" and name in ("0", "[heap]"):
                start, end = (int(one, 16) for one in place.split("-"))
                for page in range(-(-start // _LARGE_BYTES), end // _LARGE_BYTES):
                    advise(page * _LARGE_BYTES, _LARGE_BYTES, _MADV_COLLAPSE)


_LARGE_BYTES, _MADV_COLLAPSE = 2 * 1024**2, 25


def _receive(conn: socket.socket) -> tuple[Any, list[int]]:
    size, given, _, _ = socket.recv_fds(conn, 4, 3)
    data = b""
    while len(data) < int.from_bytes(size, "big") and (more := conn.recv(1 << 20)):
        data += more
    return json.loads(data), given


def _tell_end(pid: int, conn: socket.socket) -> None:
    """What the process cost is then part of what the run of the tests cost."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError), conn:
        conn.sendall(code.to_bytes(4, "big", signed=True))


def _become(request: Any, given: list[int]) -> list[str]:
    words: list[str]
    words, directory, environment = request
    for number, fd in enumerate(given):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    return words


def end(code: int) -> NoReturn:
    """An interpreter's end would take all modules apart."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            thread.join()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _import_all() -> None:
    import ingestd
    from ingestd.core.regex import _Late

    for module in pkgutil.walk_packages(ingestd.__path__, "ingestd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    for one in gc.get_objects():
        if type(one) is _Late:
            hasattr(one, "match")  # is compiled for it, once for all forks
    _fill_caches()
    _take_large_pages()


_LATE = (
    *("anyio._backends._asyncio", "anyio._core._signals", "uvloop", "rich.console", "rich.table"),
    *("nats", "httpcore", "tomlkit", "watchfiles", "difflib", "encodings.utf_32_be", "encodings.utf_32_le"),
)
"""What commands import late, and most often: the client of NATS was a seventh of what a worker cost."""


def _fill_caches() -> None:
    from ingestd.config.settings import Settings
    from ingestd.sandbox.server import Sandbox
    from ingestd.store.connection import newest_schema
    from ingestd.transport.tls import public_authorities

    Settings()
    Sandbox()
    public_authorities()
    newest_schema()


def _call() -> int:
    from ingestd.cli.main import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else bool(end.code)
    return 0


if __name__ == "__main__":
    sys.argv = ["ingestd", *serve(sys.argv[1], _import_all)]
    end(_call())
