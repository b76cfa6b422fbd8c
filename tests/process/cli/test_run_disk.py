"""The state directory that cannot be written: full, locked, replaced, read-only, somebody else's."""

import contextlib
import json
import os
import secrets
import sqlite3
import subprocess
from itertools import chain
from pathlib import Path

import httpx
import pytest

from ingestd.store.connection import PRAGMAS, VERSION
from tests.event_api import event, events, events_of, noise, once_each
from tests.integration.store.test_migration import make_old
from tests.integration.store.tmpfs import fill, make_read_only, small_disk
from tests.machine import patience
from tests.process.cli.run_support import (
    LOST,
    Keeper,
    Producer,
    Serving,
    numbers,
    producer,
    retry,
    serve,
    words,
)
from tests.process.cli.support import Place, until
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio

KEY = {"key": "i-000001,routing.interaction.queue,2026-01-01T09:00:00Z"}


def large(number: int) -> bytes:
    """As much on a disk, where a spool is compressed."""
    return event(number, note=noise(number, 5_000))


def taken_by(api: Keeper) -> list[bytes]:
    """Each event once: where a disk fills slowly a request that waits at the gate is sent again."""
    return [*chain(*once_each([request for _, request in api.taken]).values())]


async def _is_taken(one: Producer, first: int, refused_with: tuple[int, ...]) -> bool:
    answer = await one.post([large(first)])
    assert answer.status in (202, *refused_with), answer
    return answer.status == 202


async def test_a_full_disk_is_told_and_costs_nothing_that_was_acknowledged(place: Place) -> None:
    with small_disk(place.state, megabytes=24):
        filler = place.state / "filler"
        async with Keeper() as api, serve(place, api) as serving, producer(serving.ingest_port) as one:
            api.open_gate.clear()
            _fill(filler, leave_bytes=512 * 1024)
            taken = 0
            while await _is_taken(one, taken, (503,)):
                taken += 1
            assert taken > 10
            answer = await one.post([large(taken)])
            assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
            assert int(answer.headers["retry-after"]) >= 1
            assert b"is full" in answer.body
            reasons = await serving.reasons()
            assert len(reasons) == 1
            assert "the disk under" in reasons[0]
            assert "the disk under" in (await serving.said("store: producers are told to wait"))["reason"]
            assert await serving.metric("ingestd_disk_full") == 1
            assert (await serving.get("/healthz")).status == 200

            api.open_gate.set()  # what was accepted goes on, with the room that the ballast had kept
            await serving.until_empty()
            assert sorted(numbers(taken_by(api))) == list(range(taken))

            filler.unlink()
            await retry(lambda: _is_taken(one, taken, (503,)))
            assert await serving.reasons() == []
            assert await serving.metric("ingestd_disk_full") == 0
            await serving.said("store: producers are welcome again (after")
            await serving.until_empty()
            await serving.stop()
    assert sorted(numbers(taken_by(api))) == list(range(taken + 1))


async def test_a_spool_that_filled_the_disk_itself_takes_events_again_once_it_is_empty(place: Place) -> None:
    with small_disk(place.state, megabytes=32):
        async with Keeper() as api, serve(place, api) as serving, producer(serving.ingest_port) as one:
            api.open_gate.clear()
            taken = 0
            while (answer := await one.post([*map(large, range(taken, taken + 100))])).status == 202:
                taken += 100
            assert answer.status == 503, answer
            assert b"the disk is full" in answer.body
            assert str(place.state).encode() not in answer.body, "no business of a producer's"
            assert "free some space, and it goes on by itself" in (await serving.reasons())[0]
            api.open_gate.set()
            await serving.until_empty()
            await retry(lambda: _is_taken(one, taken, (503,)))
            assert await serving.reasons() == []
            await serving.until_empty()
            await serving.stop()
    assert sorted(numbers(taken_by(api))) == list(range(taken + 1))


@pytest.mark.parametrize("version", [7, VERSION])
async def test_of_a_directory_that_cannot_be_written_each_command_says_so_in_a_line(
    place: Place, version: int
) -> None:
    with small_disk(place.state, megabytes=8):
        with contextlib.closing(sqlite3.connect(place.state / "state.db")) as begun:
            begun.executescript(PRAGMAS)
        make_old(place.state / "state.db", version).close()
        make_read_only(place.state)
        for words in (
            ("dlq", "list"),
            ("dlq", "list", "--group"),
            ("dlq", "show", 1),
            ("dlq", "export"),
            ("dlq", "retry", 1, "--dry-run", "--api", "http://127.0.0.1:9"),
            ("dlq", "park", "--all"),
            ("dlq", "purge", "--all", "--yes"),
            ("spool", "stat"),
            ("spool", "check"),
            ("spool", "park", "crm"),
            ("where", "key"),
        ):
            done = await place.run(*words, "--state-dir", place.state)
            assert done.code in (1, 2), (words, done)
            assert len(done.said) == 1, (words, done)


async def test_a_log_that_is_removed_under_the_service_costs_nothing(place: Place) -> None:
    async with Keeper() as api:
        api.open_gate.clear()
        async with serve(place, api) as serving, producer(serving.ingest_port) as one:
            await one.give(events(10))
            (place.state / "state.db-wal").unlink()
            (place.state / "lock").unlink()
            await serving.said("state.db-wal was removed or replaced in use")
            await serving.said("lock was removed or replaced while it was in use")
            assert "was removed or replaced" in (await serving.status())["store"]["repaired"]
            done = await place.run(*words(place, api))
            assert f"is in use by process {serving.process.pid}" in _one_line(place, done.err)
            done = await place.run(*words(place, api), "--admin-listen", f"127.0.0.1:{serving.admin_port}")
            assert f"is in use by process {serving.process.pid}" in _one_line(place, done.err)
            await one.give(events(10, first=10))
            await serving.kill()
        api.open_gate.set()
        async with serve(place, api) as serving:
            await serving.until_empty()
            await serving.stop()
    assert sorted(set(numbers(api.kept))) == list(range(20))


async def test_a_process_killed_on_a_full_disk_starts_there_and_delivers(place: Place) -> None:
    with small_disk(place.state, megabytes=24):
        async with Keeper() as api:
            api.open_gate.clear()
            async with serve(place, api) as serving, producer(serving.ingest_port) as one:
                _fill(place.state / "filler", leave_bytes=512 * 1024)
                taken = 0
                while await _is_taken(one, taken, (503,)):
                    taken += 1
                await serving.kill()
            api.open_gate.set()
            async with serve(place, api) as serving:
                await serving.said("at the start: the disk under")
                await serving.until_empty()
                await serving.stop()
    assert sorted(set(numbers(api.kept))) == list(range(taken))


async def test_a_service_on_a_disk_that_stays_full_says_where_an_event_is_and_ends_in_time(
    place: Place,
) -> None:
    async with Keeper(lambda request: Reply(422, body=_refusals(request))) as api:
        api.open_gate.clear()
        with small_disk(place.state, megabytes=24):
            env = {"INGESTD_DELIVERY_SHUTDOWN_TIMEOUT": "1s", "INGESTD_LETTERS_POLL_INTERVAL": "60s"}
            async with serve(place, api, env=env) as serving, producer(serving.ingest_port) as one:
                await one.give([*map(large, range(300))])
                await until(lambda: (place.state / "state.db-wal").stat().st_size < 10_000)  # it has no room
                os.link(place.state / "ballast", place.state / "held")  # to give it up makes no room
                fill(place.state)
                api.open_gate.set()
                await serving.said("store: producers are told to wait")
                url = f"http://127.0.0.1:{serving.admin_port}"
                async with httpx.AsyncClient(
                    base_url=url, timeout=patience(10), trust_env=False, verify=False
                ) as client:
                    assert "It was accepted" in (await client.get("/v1/where", params=KEY)).text
                await serving.stop()
                await serving.said("what became of the last events is not written")
            for name in ("filler", "held"):
                (place.state / name).unlink()
            api.fault = lambda request: None
            async with serve(place, api) as serving:
                await serving.until_empty()
                await serving.stop()
    assert sorted(numbers(api.kept)) == [*range(300)]


def _refusals(request: Request) -> bytes:
    errors = [{"index": index, "status": 422, "message": "no"} for index in range(len(events_of(request)))]
    return json.dumps({"errors": errors}).encode()


def _fill(file: Path, *, leave_bytes: int) -> None:
    """All of the disk but ``leave_bytes``."""
    disk = os.statvfs(file.parent)
    with file.open("wb") as opened:
        os.posix_fallocate(opened.fileno(), 0, disk.f_bavail * disk.f_frsize - leave_bytes)


async def test_while_another_program_holds_the_store_producers_wait_and_then_it_goes_on(place: Place) -> None:
    async with Keeper() as api, serve(place, api) as serving, producer(serving.ingest_port) as one:
        await one.give(events(5))
        await serving.until_empty()
        other = sqlite3.connect(place.state / "state.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        answer = await one.post(events(1, first=5))
        assert (answer.status, answer.headers["retry-after"]) == (503, "30")
        assert b"is locked by another program" in answer.body
        assert "is locked by another program" in (await serving.reasons())[0]
        other.execute("COMMIT")
        other.close()
        await retry(lambda: _is_taken(one, 5, (503,)))
        await serving.until_empty()
        await serving.stop()
    assert numbers(api.kept) == list(range(6))


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_a_state_file_that_is_no_longer_there_ends_the_process_and_no_answer_says_202(
    place: Place, how: str
) -> None:
    async with Keeper() as api, serve(place, api) as serving:
        async with producer(serving.ingest_port) as one:
            await one.give(events(1))
            await serving.until_empty()
            state = place.state / "state.db"
            if how == "removed":
                state.unlink()
            else:
                (place / "other.db").write_bytes(state.read_bytes())
                (place / "other.db").replace(state)
            with contextlib.suppress(*LOST):  # it may have noticed before
                assert (await one.post(events(1, first=1))).status == 503
        done = await serving.finish()
        assert done.code == 1, done
        told = [line["message"] for line in serving.log if line["level"] == "error"]
        assert len(told) == 1, told
        assert f"{state} was {how} while it was in use, and is written back: start again" in told[0]
        async with serve(place, api) as again:  # what was committed meanwhile is there
            await again.until_empty()
            await again.stop()
        assert set(numbers(api.kept)) >= {0}


def _one_line(place: Place, said: str) -> str:
    lines = said.splitlines()
    assert len(lines) == 1, said
    assert str(place.state) in lines[0], said
    return lines[0]


@pytest.mark.parametrize("content", ["noise", "somebody else's"])
async def test_a_state_file_that_is_garbage_is_told_in_one_line(place: Place, content: str) -> None:
    async with Keeper() as api:
        async with serve(place, api) as serving, producer(serving.ingest_port) as one:
            await one.give(events(5))
            await serving.until_empty()
            await serving.stop()
        state = place.state / "state.db"
        for log in place.state.glob("state.db-*"):
            log.unlink()
        if content == "noise":
            state.write_bytes(secrets.token_bytes(8192))
        else:
            state.unlink()
            with sqlite3.connect(state) as connection:
                connection.execute("CREATE TABLE meta (a)")
            connection.close()
        done = await place.run(*words(place, api))
    assert done.code == 1, done
    said = _one_line(place, done.err)
    assert ("cannot use" if content == "somebody else's" else "move it away, or restore it") in said


def _make_read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


async def test_a_directory_that_cannot_be_written_is_told_in_one_line(place: Place) -> None:
    async with Keeper() as api:
        with small_disk(place.state, megabytes=24) as disk:
            _make_read_only(disk)
            done = await place.run(*words(place, api))
            assert (done.code, "Read-only file system" in _one_line(place, done.err)) == (2, True), done
        place.state = place / "file" / "state"
        (place / "file").write_text("no directory")
        done = await place.run(*words(place, api))
        assert (done.code, "Not a directory" in _one_line(place, done.err)) == (2, True), done


async def test_a_directory_without_permission_is_told_in_one_line(place: Place) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    place.state.mkdir(mode=0o500)
    done = await place.run(*words(place, "http://127.0.0.1:9"))
    assert (done.code, "Permission denied" in _one_line(place, done.err)) == (2, True), done


async def test_a_second_instance_on_the_same_directory_is_told_who_has_it(place: Place) -> None:
    async with Keeper() as api, serve(place, api) as serving:
        done = await place.run(*words(place, api))
        assert done.code == 2
        assert f"is in use by process {serving.process.pid}" in _one_line(place, done.err)
        async with producer(serving.ingest_port) as one:
            await one.give(events(1))
        await _stopped(serving)
    assert numbers(api.kept) == [0]


async def _stopped(serving: Serving) -> None:
    await serving.until_empty()
    await serving.stop()
