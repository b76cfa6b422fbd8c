"""A store that cannot be written for a while: producers are told so, nothing is half taken."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from ingestd.config.spool_section import MIN_BALLAST_BYTES
from ingestd.core.submission import AcceptedSubmission, DeferredSubmission
from tests.each import each
from tests.event_api import noise
from tests.integration.intake.support import Life, event, events, running, sent
from tests.integration.intake.test_admission import turns
from tests.integration.store.tmpfs import fill, small_disk, until_unblocked
from tests.machine import patience
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio


async def expect_deferred(life: Life, status: int) -> None:
    """An event and its copy that came while it was on its way to the disk have the same fate."""
    original = life.submit(*events(range(500)), b"broken")
    await turns()
    copy = life.submit(event(1))
    new = life.submit(event(1000), event(1))
    for told in (original, copy, new):
        result = await told
        assert isinstance(result, DeferredSubmission)
        assert result.status == status
        assert result.retry_after_s > 0
    assert (await life.refuse(event(2000))).status == status
    assert life.ingest.spool.events == life.ledger.in_flight
    assert life.pipeline.window.pending == 0


async def expect_taken_again(life: Life, before: int) -> None:
    assert await life.take(*events(range(500))) == AcceptedSubmission(500, 0, [])
    assert await life.take(event(1000), event(1)) == AcceptedSubmission(1, 1, [])
    await life.until_empty()
    assert life.ledger.delivered == before + 501
    life.assert_balanced()


async def test_on_a_full_disk_producers_get_503_and_may_send_the_same_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=24) as disk:
        async with (
            Receiver() as receiver,
            running(
                disk, receiver, spool={"ballast": MIN_BALLAST_BYTES}, audit={"file": str(tmp_path / "a")}
            ) as life,
        ):
            await life.take(event(5000))
            await life.until_empty()
            filler = fill(disk)
            await expect_deferred(life, 503)
            filler.unlink()
            await until_unblocked(life.pipeline.database)
            await expect_taken_again(life, before=1)
            assert sorted(sent(receiver)) == [*range(500), 1000, 5000]


async def test_what_was_accepted_is_delivered_while_the_disk_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=24) as disk:
        async with (
            Receiver() as receiver,
            running(
                disk,
                receiver,
                deliver=False,
                spool={"ballast": MIN_BALLAST_BYTES},
                audit={"file": str(tmp_path / "a")},
            ) as life,
        ):
            await life.take(*events(range(300)))
            filler = fill(disk)
            assert (await life.refuse(*events(range(300, 1300)))).status == 503
            life.deliver()
            await life.until_empty()
            assert sent(receiver) == list(range(300))
            assert life.rows("SELECT count(*) FROM spool") == [(0,)]
            filler.unlink()
            await until_unblocked(life.pipeline.database)
            assert await life.take(*events(range(300, 310))) == AcceptedSubmission(10, 0, [])


def large(number: int, pad: int) -> bytes:
    """As large on the disk, where a spool is compressed."""
    return event(number, attributes={"pad": noise(number, pad)})


@pytest.mark.slow(
    "tests/integration/intake/test_blocked_store.py::test_what_was_accepted_is_delivered_while_the_disk_is_full",
    "tests/process/cli/test_run_disk.py::test_a_spool_that_filled_the_disk_itself_takes_events_again_once_it_is_empty",
)
@each(("count", "pad"), [(100, 5_000), (1_000, 600), (1_000, 5_000)])
async def test_a_spool_that_filled_the_disk_drains_with_the_least_ballast(
    tmp_path: Path, count: int, pad: int
) -> None:
    """What the log of the state file holds has to fit in, or even what frees room cannot be written."""
    with small_disk(tmp_path / "disk", megabytes=32) as disk:
        kept = {"spool": {"ballast": MIN_BALLAST_BYTES}, "audit": {"file": str(tmp_path / "a")}}
        async with Receiver() as receiver, running(disk, receiver, deliver=False, **kept) as life:
            taken = 0
            while isinstance(
                await life.submit(*(large(number, pad) for number in range(taken, taken + count))),
                AcceptedSubmission,
            ):
                taken += count
            life.deliver()
            await life.until_empty()
            await until_taken(life, event(taken))
            await life.until_empty()
            assert sorted(sent(receiver)) == list(range(taken + 1))


async def until_taken(life: Life, one: bytes) -> None:
    """What is left to be settled may fill the disk once more: then it is 503 for a moment again."""
    async with asyncio.timeout(patience(30)):
        while True:
            await until_unblocked(life.pipeline.database)
            result = await life.submit(one)
            if isinstance(result, AcceptedSubmission):
                return
            assert result.status == 503


async def test_while_another_program_has_a_lock_producers_get_503_and_may_send_the_same_again(
    tmp_path: Path,
) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver) as life:
        await life.take(event(5000))
        await life.until_empty()
        other = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            await expect_deferred(life, 503)
        finally:
            other.execute("ROLLBACK")
            other.close()
        await until_unblocked(life.pipeline.database)
        await expect_taken_again(life, before=1)


async def test_a_deferred_submission_leaves_no_dead_letters(tmp_path: Path) -> None:
    async with (
        Receiver() as receiver,
        running(tmp_path / "state", receiver, ingest={"keep_rejected": True}) as life,
    ):
        other = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            assert (await life.refuse(event(1), b"broken")).status == 503
        finally:
            other.execute("ROLLBACK")
            other.close()
        await until_unblocked(life.pipeline.database)
        taken = await life.take(event(1), b"broken")
        assert (taken.accepted, len(taken.rejected)) == (1, 1)
        await life.pipeline.journal.commit()
        assert life.rows("SELECT count(*) FROM letters") == [(1,)]
        assert life.ledger.rejected == 1


async def test_an_audit_file_that_takes_no_more_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver) as life:
        audit, flush = life.pipeline.audit, life.pipeline.audit.flush
        audit.flush = lambda: audit._fail(OSError(28, "No space left on device"))  # type: ignore[method-assign]
        async with asyncio.timeout(patience(5)):
            while "No space left on device; it is tried again" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await life.take(event(1))
        await life.until_empty()
        audit.flush = flush  # type: ignore[method-assign]
        async with asyncio.timeout(patience(5)):
            while "the audit log is written again" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert caplog.text.count("No space left on device") == 1
