"""Commands in an interpreter of their own, from its start to its end; the other tests start theirs warm."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.event_api import EventApi, events, write
from tests.integration.cli.test_routes_command import CONFIG, LOW
from tests.process.cli.run_support import words
from tests.process.cli.support import COMMAND, Place

pytestmark = pytest.mark.anyio


async def start(place: Place, arguments: Sequence[object]) -> asyncio.subprocess.Process:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")}
    given = {"XDG_STATE_HOME": str(place / "xdg"), "PYTHONFAULTHANDLER": "1", **place.env}
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *map(str, arguments),
        env={**kept, **given},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ran(place: Place, *arguments: object) -> tuple[int | None, str]:
    process = await start(place, arguments)
    out, err = await process.communicate()
    return process.returncode, out.decode() + err.decode()


async def test_each_command_imports_what_it_needs_and_ends_without_a_word_too_many(place: Place) -> None:
    source = write(place / "events.ndjson", [*events(20), b"{}"])
    async with EventApi() as api:
        code, said = await ran(place, *place.replay(api, source), "--quiet")
        assert (code, said.count("\n"), "1 rejected" in said) == (3, 1, True), said
        code, said = await ran(place, *place.dlq("list", "--json"))
        assert (code, said.count("\n")) == (0, 1), said
        service = await start(place, words(place, api))
        assert service.stderr
        while b"listening" not in (line := await service.stderr.readline()):
            assert line, "it ended"
        service.send_signal(signal.SIGTERM)
        _, err = await service.communicate()
    assert service.returncode == 0
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


def test_what_a_full_disk_does_not_take_is_told_in_a_line() -> None:
    """Also what libraries print for us."""
    for line in (["--version"], ["--help"], ["config", "show"], ["completion", "bash"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*COMMAND, *line], stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 1
        assert done.stderr == b"ingestd: cannot write: No space left on device\n"


def test_standard_streams_that_are_closed_are_no_fault(tmp_path: Path) -> None:
    """As under some supervisors. Of their numbers no other file has one: libuv ends a process for that."""
    replay = ["replay", "-", "--api", "http://127.0.0.1:9", "--no-auth", "--state-dir", str(tmp_path)]
    for closed, line, code, said in (
        (">&-", ["--version"], 0, b""),
        (">&-", ["config", "show"], 0, b""),
        ("2>&-", ["config", "show", "--config", "/nonexistent"], 2, b""),
        ("<&- >&-", replay, 3, b"ingestd: standard input: reading failed: Bad file descriptor\n"),
    ):
        shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *COMMAND, *line]
        done = subprocess.run(shell, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr) == (code, said)


async def test_a_command_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """Start-up is quick, and an extra that is not installed is not missed."""
    code = """
import sys
import ingestd.cli.sandbox
print({"aiohttp", "anyio", "msgspec", "pydantic"} & set(sys.modules))
import ingestd.transport.aws
print({"botocore"} & set(sys.modules))
import ingestd.app.replay, ingestd.cli.progress, ingestd.app.letters.retry
print({"aiohttp", "anyio", "backports", "csv", "gzip", "html", "pydantic", "rich"} & set(sys.modules))
import ingestd.app.run
kinds = ["sources.kafka.source", "sources.nats.source", "sources.sqs.source", "sources.genesys.source",
    "sources.live.source", "transport.websocket"]
print({f"ingestd.{kind}" for kind in kinds} & set(sys.modules))
print({"anyio", "pydantic", "ingestd.lake", "ingestd.transport.folder"} & set(sys.modules))
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    out, _ = await process.communicate()
    assert out.decode().splitlines() == ["set()"] * 5


def test_a_wrong_pattern_is_told_with_its_place_and_2(tmp_path: Path) -> None:
    path = tmp_path / "ingestd.toml"
    path.write_text(CONFIG)
    command = [sys.executable, "-m", "ingestd", "routes", "test", "--config", str(path), LOW]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "ingestd: sinks.main.when: eventType[0].anything-but:"
        " expected a string, a number, an array of either, or an operator on text\n"
    )
