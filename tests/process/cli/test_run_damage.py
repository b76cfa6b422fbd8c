"""A spool that was damaged between two lives of the service: the rest is delivered, and the damage told."""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from ingestd.store.spool_inspection import SpoolInspection
from tests.event_api import events
from tests.process.cli.run_support import Keeper, Told, assert_ledger, numbers, producer, serve
from tests.process.cli.support import Place
from tests.receiver import Reply

pytestmark = pytest.mark.anyio

CHUNKS, EACH = 12, 10
REFUSED = json.dumps({"errors": [{"index": n, "status": 422, "message": "no"} for n in range(EACH)]}).encode()
NONE = {"waiting": 0, "leased": 0, "delivered": 0}
NOWHERE = "http://127.0.0.1:9"


async def _fill_and_kill(place: Place, *, note: str = "n" * 200) -> None:
    """A spool of chunks that were committed one after the other; those of short notes are not compressed."""
    async with serve(place, NOWHERE) as serving, producer(serving.ingest_port) as one:
        for chunk in range(CHUNKS):
            await one.give(events(EACH, first=chunk * EACH, note=note))
        await serving.kill()


async def _check(place: Place, *more: str) -> tuple[int, Told]:
    done = await place.run("spool", "check", "--json", "--state-dir", place.state, *more)
    found: Told = json.loads(done.out or "{}")
    return done.code, found


async def test_a_damaged_chunk_is_put_aside_and_told_and_the_others_are_delivered(place: Place) -> None:
    await _fill_and_kill(place, note="n" * 100)
    assert await _check(place) == (0, {"checked": CHUNKS, "bad": [], "problems": []})
    # What SQLite's replace() gives is a TEXT: one bit in a row's head can do that as well.
    place.change_state("UPDATE spool SET payload = replace(payload, CAST('i-000034' AS BLOB), 'i-999934')")
    with contextlib.closing(sqlite3.connect(place.state / "state.db")) as connection:
        (bad,) = next(connection.execute("SELECT id FROM spool WHERE instr(payload, 'i-999934')"))
    code, found = await _check(place)
    assert (code, found["bad"]) == (1, [bad])

    async with Keeper() as api, serve(place, api) as serving:
        done = await serving.until(lambda told: told["spool"]["events"] == 0)
        assert done["spool"]["damage"][0]["what"] == "checksum does not match"
        assert (done["spool"]["damage"][0]["first"], done["spool"]["damage"][0]["events"]) == (bad, EACH)
        assert done["ledger"]["by_reason"]["damaged"] == EACH
        assert (done["ledger"]["delivered"], done["ledger"]["accepted"]) == (110, 120)
        assert await serving.metric("ingestd_spool_quarantined_chunks") == 1
        line = await serving.said(f"chunk {bad} of the spool is damaged: checksum does not match")
        assert line["level"] == "warning"
        assert "i-9999" not in (await serving.stop()).err
    assert sorted(numbers(api.kept)) == [n for n in range(120) if n // EACH != 3]
    code, found = await _check(place)
    assert (code, found["bad"]) == (1, [])
    assert "checksum does not match" in found["problems"][0]
    assert b"i-999934" in b"".join(SpoolInspection(place.state).events(damaged=True))
    assert await _check(place, "--forget") == (0, {"checked": 0, "bad": [], "problems": []})


async def test_a_chunk_that_vanished_is_told(place: Place) -> None:
    await _fill_and_kill(place)
    place.change_state("DROP TRIGGER spool_settled")  # as a stray hand, or a fault of the file, would
    place.change_state("DELETE FROM spool WHERE id = 5")
    async with Keeper() as api, serve(place, api) as serving:
        done = await serving.until_empty()
        assert "1 chunks are no longer in the file" in str(done["spool"]["damage"])
        await serving.said("the spool is damaged")
        await serving.stop()
    assert sorted(numbers(api.kept)) == [n for n in range(120) if n // EACH != 4]
    assert (await _check(place))[0] == 1


def _flip(log: Path, share: float) -> None:
    data = bytearray(log.read_bytes())
    data[int(len(data) * share)] ^= 0x10
    log.write_bytes(data)


@pytest.mark.parametrize("share", [0.03, 0.5, 0.97])
async def test_a_flipped_bit_in_the_write_ahead_log_is_told(place: Place, share: float) -> None:
    """SQLite drops the tail of the log, and says nothing."""
    await _fill_and_kill(place)
    copy = Place(place / "copy")
    copy.directory.mkdir()
    shutil.copytree(place.state, copy.state)
    _flip(copy.state / "state.db-wal", share)
    code, found = await _check(copy)
    assert code == 1, found

    async with Keeper() as api, serve(copy, api) as serving, producer(serving.ingest_port) as one:
        told = (await serving.said("the spool is damaged"))["message"]
        assert "write-ahead log" in told
        done = await serving.until_empty()
        assert "write-ahead log" in done["spool"]["damage"][0]["what"]
        before = sorted(numbers(api.kept))
        assert before == list(range(len(before)))  # what was first accepted is there, up to the damage
        assert len(before) < CHUNKS * EACH
        await one.give(events(EACH, first=1_000))  # and it goes on
        done = await serving.until_empty()
        assert_ledger(done["ledger"])
        await serving.stop()
    assert sorted(numbers(api.kept)) == [*before, *range(1_000, 1_000 + EACH)]
    assert (await _check(copy))[0] == 1


async def test_letters_that_lost_what_they_shared_are_told_at_the_start_and_can_be_corrected(
    place: Place,
) -> None:
    async with Keeper(lambda request: Reply(422, body=REFUSED)) as api:
        async with serve(place, api) as serving, producer(serving.ingest_port) as one:
            await one.give(events(EACH))
            await serving.until(lambda told: told["dead_letters"].get("waiting") == EACH)
            await serving.stop()
        place.change_state("UPDATE envelopes SET id = 1 << 40")
        assert json.loads((await place.run(*place.dlq("list", "--json"))).out)["total"] == 0
        api.fault = lambda request: None
        async with serve(place, api) as serving:
            await serving.said(f"of {EACH} dead letters sink, request and reason are lost")
            listed = json.loads((await place.run(*place.dlq("list", "--reason", "damaged", "--json"))).out)
            assert (listed["total"], listed["letters"][0]["sink"]) == (EACH, None)
            assert (await place.run(*place.dlq("retry", "--reason", "damaged"))).code == 0
            await serving.until(lambda told: told["dead_letters"] == {**NONE, "delivered": EACH})
            await serving.stop()
    assert sorted(numbers(api.kept)) == [*range(EACH)]


async def test_damage_in_what_letters_share_holds_up_no_event(place: Place) -> None:
    await _fill_and_kill(place)
    with contextlib.closing(sqlite3.connect(place.state / "state.db")) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'envelopes'")
        ((size,),) = connection.execute("PRAGMA page_size")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (place.state / "state.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))
    async with Keeper() as api, serve(place, api) as serving:
        await serving.said("is made again of what could be read: nothing is lost")
        await serving.until_empty()
        assert "b'" not in serving.raw  # settings are the texts that they were
        await serving.stop()
    assert sorted(numbers(api.kept)) == [*range(CHUNKS * EACH)]


@pytest.mark.parametrize("what", ["a page of the spool", "the end of the file"])
async def test_a_service_starts_with_what_can_be_read_of_a_damaged_state_file(
    place: Place, what: str
) -> None:
    await _fill_and_kill(place, note="n" * 100)
    state = place.state / "state.db"
    with contextlib.closing(sqlite3.connect(state)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = state.read_bytes()
    lost = content.index(b"i-000034") // 4096 * 4096
    if what == "a page of the spool":
        state.write_bytes(content[:lost] + bytes(4096) + content[lost + 4096 :])
    else:
        state.write_bytes(content[:lost])
    async with Keeper() as api, serve(place, api) as serving, producer(serving.ingest_port) as one:
        told = await serving.said("the state file in")
        assert "of the spool, in" in told["message"]
        await one.give(events(EACH, first=1_000))
        await serving.until_empty()
        assert await serving.metric("ingestd_damaged_state_files") == 1
        assert (await serving.status())["store"]["damaged"] == [str(place.state / "state.db.damaged")]
        await serving.stop()
    (entry,) = [line for line in place.audit() if line["event"] == "STATE_MENDED"]
    there = sorted(numbers(api.kept))
    assert entry["events"] + entry["set_aside"] == CHUNKS * EACH + EACH - len(there)
    assert 0 < entry["events"] < CHUNKS * EACH
    aside = b"".join(SpoolInspection(place.state).events(damaged=True))
    assert aside.count(b'"interactionId"') == entry["set_aside"], "of a request that was on its way"
    assert set(there) >= {*range(1_000, 1_000 + EACH)}
