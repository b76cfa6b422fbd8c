"""``ingestd audit`` beside processes that write, and into pipes that nobody reads."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from tests.event_api import INVALID, EventApi, events, write
from tests.integration.cli.test_audit_command import run
from tests.process.cli.support import COMMAND, Place
from tests.receiver import Reply, Request


def test_tail_follows_what_is_added_past_rotations(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.jsonl", max_bytes=1000)
    audit(AuditEntry.RUN_STARTED, events=0)
    audit.flush()
    seen: list[int] = []
    words = (*COMMAND, "audit", "tail", "-f", "--json", "--state-dir", tmp_path)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen.append(json.loads(process.stdout.readline())["events"])
        for number in range(1, 25):
            audit(AuditEntry.BATCH_DELIVERED, events=number)
            audit.flush()
            while number % 8 == 0 and seen[-1] < number:
                seen.append(json.loads(process.stdout.readline())["events"])
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    audit.close()
    assert seen == list(range(25))
    assert len(os.listdir(tmp_path)) > 3
    assert (process.returncode, err.strip()) == (130, b"ingestd: interrupted")


@pytest.mark.anyio
async def test_whoever_stops_reading_gets_no_traceback(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.jsonl")
    for _ in range(2000):
        audit(AuditEntry.RUN_STARTED, error="x" * 200)
    audit.close()
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "audit", "grep", "--state-dir", tmp_path, stdout=writer, stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
    finally:
        os.close(writer)
    assert (process.returncode, err) == (0, b"")


@pytest.mark.anyio
async def test_the_log_of_a_run_and_of_a_purge_beside_it_is_whole(tmp_path: Path) -> None:
    place, held = Place(tmp_path), asyncio.Event()

    async def hold(request: Request) -> Reply:
        await held.wait()
        return Reply()

    write(place / "bad.ndjson", [INVALID])
    write(place / "events.ndjson", events(3))
    async with EventApi() as api:
        assert (await place.run(*place.replay(api, place / "bad.ndjson"))).code == 3
    async with EventApi(hold) as api, place.start(*place.replay(api, place / "events.ndjson")) as replay:
        await api.until(lambda api: len(api.requests) > 0)
        assert (await place.run(*place.dlq("purge", "--all", "--yes"))).code == 0
        held.set()
        assert (await replay.finish()).code == 0
    done = run("verify", "--state-dir", place.state, "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["ok"], told["writers"], told["torn"]) == (0, True, 3, [])
    assert {"LETTERS_PURGED", "RUN_FINISHED"} <= {entry["event"] for entry in place.audit()}
