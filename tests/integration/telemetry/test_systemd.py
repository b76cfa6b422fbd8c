"""systemd is told what the service does: a real datagram socket stands in for it."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ingestd.telemetry.systemd import Systemd
from tests.each import each
from tests.integration.delivery.virtual_time import VIRTUAL
from tests.machine import patience


class Supervisor:
    """Takes datagrams as systemd does."""

    def __init__(self, address: str) -> None:
        self.environ = {"NOTIFY_SOCKET": address}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        found: list[str] = []
        with suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(65_536).decode())
        return found


@pytest.fixture(params=["path", "abstract"])
def supervisor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Supervisor]:
    found = Supervisor(
        str(tmp_path / "notify") if request.param == "path" else f"@ingestd-test-{os.getpid()}"
    )
    with found.socket:
        yield found


def test_start_status_reload_and_stop_are_told(supervisor: Supervisor) -> None:
    systemd = Systemd(supervisor.environ)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert systemd.ready()
    assert systemd.status("taking events\nREADY=0\x00 \t é")
    assert systemd.reloading()
    assert systemd.stopping()
    ready, status, reloading, stopping = supervisor.heard()
    assert (ready, stopping) == ("READY=1", "STOPPING=1")
    assert status == "STATUS=taking events READY=0\x00 é", "one line, so that it cannot be another notice"
    first, _, at = reloading.partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before <= int(at) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_without_systemd_nothing_happens() -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "@"}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        systemd = Systemd({**environ, "WATCHDOG_USEC": "1000"})
        assert not systemd.ready()
        assert systemd.watchdog_s is None


def test_a_systemd_that_is_gone_or_too_busy_costs_nothing(tmp_path: Path) -> None:
    supervisor = Supervisor(str(tmp_path / "notify"))
    systemd = Systemd(supervisor.environ)
    with supervisor.socket:
        assert not all(systemd.ready() for _ in range(10_000)), "the queue never filled"
    assert not systemd.ready()
    (tmp_path / "notify").unlink()
    assert not systemd.ready()


@each(
    ("usec", "pid", "expected"),
    [
        ("30000000", "", 30.0),
        ("30000000", "this process", 30.0),
        ("30000000", "1", None),
        ("0", "", None),
        ("-5", "", None),
        ("1_000", "", None),
        ("", "", None),
    ],
)
def test_the_watchdog_interval_is_only_what_is_meant_for_us(
    usec: str, pid: str, expected: float | None
) -> None:
    pid = str(os.getpid()) if pid == "this process" else pid
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    assert Systemd(environ).watchdog_s == expected


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [VIRTUAL], ids=["virtual"])
async def test_signs_of_life_come_twice_an_interval_and_only_while_the_loop_beats(
    supervisor: Supervisor,
) -> None:
    systemd = Systemd({**supervisor.environ, "WATCHDOG_USEC": "200000"})
    task = asyncio.create_task(systemd.keep_alive())
    await asyncio.sleep(0.45)
    assert supervisor.heard() == ["WATCHDOG=1"] * 5
    time.sleep(0.3)  # noqa: ASYNC251 - the loop is blocked on purpose
    assert supervisor.heard() == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.anyio
async def test_keep_alive_ends_at_once_where_nobody_watches(supervisor: Supervisor) -> None:
    await asyncio.wait_for(Systemd(supervisor.environ).keep_alive(), patience(1))
    assert supervisor.heard() == []
