"""Reception, spool and feed together: who is answered what, and not before it is on disk."""

import asyncio
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from ingestd.core.reasons import Reason
from ingestd.core.submission import AcceptedSubmission
from tests.each import each
from tests.integration.delivery.support import until
from tests.integration.intake.support import Gate, event, events, numbers_of, running, sent
from tests.machine import patience
from tests.receiver import Receiver, Reply, in_turn

pytestmark = pytest.mark.anyio

REFUSE_SECOND = Reply(422, body=b'{"errors":[{"index":1,"message":"not wanted"}]}')


async def turns() -> None:
    """Let everything run that can run now."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def test_an_answer_comes_only_after_the_commit_that_has_its_events(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver) as life:
        async with Gate(life.pipeline.database):
            first, second = life.submit(event(1)), life.submit(event(2), event(3))
            await turns()
            late = life.submit(event(4), event(1))
            await turns()
            assert not any(told.done() for told in (first, second, late))
            assert life.rows("SELECT count(*) FROM spool") == [(0,)]
            assert life.ledger.accepted == 0
        assert await first == AcceptedSubmission(1, 0, [])
        assert await second == AcceptedSubmission(2, 0, [])
        assert await late == AcceptedSubmission(1, 1, [])
        await life.until_empty()
        assert sorted(sent(receiver)) == [1, 2, 3, 4]


async def test_what_is_answered_is_on_disk_with_its_keys(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver, deliver=False) as life:
        await life.take(*events(range(3)))
        assert life.rows("SELECT events FROM spool") == [(3,)]
        assert life.rows("SELECT length(digests) FROM window") == [(48,)]


async def test_submissions_that_come_together_share_a_commit(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver, deliver=False) as life:
        before = life.pipeline.database.commits
        told = [life.submit(event(number)) for number in range(50)]
        for one in told:
            assert await one == AcceptedSubmission(1, 0, [])
        assert life.pipeline.database.commits == before + 1
        assert life.rows("SELECT events FROM spool") == [(50,)]


async def test_a_copy_of_an_event_whose_commit_is_running_is_told_after_it(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver, deliver=False) as life:
        async with Gate(life.pipeline.database):
            original = life.submit(event(1))
            await turns()
            copy = life.submit(event(1))
            await turns()
            assert not original.done()
            assert not copy.done()
        assert await original == AcceptedSubmission(1, 0, [])
        assert await copy == AcceptedSubmission(0, 1, [])
        assert life.rows("SELECT count(*) FROM spool") == [(1,)]


async def test_a_copy_of_an_event_that_is_being_written_right_now_is_told_after_it(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver, deliver=False) as life:
        large = event(1, pad=300_000)  # more than a chunk is not kept waiting for the commit before it
        gate = Gate(life.pipeline.database)
        gate.hold_next()
        original = life.submit(large)
        await gate.held()
        copy = life.submit(large)
        await turns()
        answered_early = copy.done()
        gate.open()
        assert not answered_early
        assert await original == AcceptedSubmission(1, 0, [])
        assert await copy == AcceptedSubmission(0, 1, [])


async def test_the_ledger_counts_every_event_that_was_answered_for(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver) as life:
        await life.take(event(1), event(2), event(1), b"broken", event(3, schemaVersion=7))
        taken = await life.take(event(2), event(4))
        assert taken == AcceptedSubmission(1, 1, [])
        await life.until_empty()
        ledger = life.ledger
        assert (ledger.accepted, ledger.delivered, ledger.duplicate, ledger.rejected) == (7, 3, 2, 2)
        assert ledger.in_flight == 0
        assert ledger.by_reason == {Reason.UNPARSABLE: 1, Reason.INVALID: 1}


async def test_nothing_of_an_atomic_submission_with_an_invalid_event_is_stored_or_known(
    tmp_path: Path,
) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver) as life:
        refused = await life.take(event(1), b"broken", event(2), atomic=True)
        assert not refused.stored
        assert [rejection.position for rejection in refused.rejected] == [1]
        assert await life.take(event(1), event(2), atomic=True) == AcceptedSubmission(2, 0, [])
        await life.until_empty()
        assert sent(receiver) == [1, 2]
        life.assert_balanced()


@each("keep", [False, True])
async def test_rejected_events_are_kept_as_dead_letters_only_if_that_is_wanted(
    tmp_path: Path, keep: bool
) -> None:
    bad = event(2, schemaVersion=7)
    async with (
        Receiver() as receiver,
        running(tmp_path / "state", receiver, ingest={"keep_rejected": keep}) as life,
    ):
        await life.take(event(1), bad, b"broken", bad)
        await life.take(bad)
        await life.pipeline.journal.commit()
        letters = life.rows("SELECT payload, reason FROM letters ORDER BY id")
        invalid = (bad, "invalid")
        # those of one request by their reasons
        assert letters == ([invalid, invalid, (b"broken", "unparsable"), invalid] if keep else [])


async def test_whoever_comes_while_the_process_ends_is_sent_away(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver) as life:
        taken = life.submit(event(1))
        life.ingest.pressure.closing = True
        assert (await life.refuse(event(2))).status == 503
        assert life.ingest.admission.unavailable() is not None
        assert life.ingest.admission.deferred == {503: 1}
        await life.ingest.admission.finished()
        assert taken.result() == AcceptedSubmission(1, 0, [])


async def test_finished_waits_for_all_that_was_submitted(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver, deliver=False) as life:
        with anyio.fail_after(patience(10)):
            await life.ingest.admission.finished()
        told = [life.submit(*events(range(first, first + 9_000))) for first in range(0, 36_000, 9_000)]
        await turns()
        told.append(life.submit(event(100_000)))
        with anyio.fail_after(patience(10)):
            await life.ingest.admission.finished()
        assert all(one.done() for one in told)


async def test_an_event_that_became_a_dead_letter_may_be_sent_again_also_after_a_restart(
    tmp_path: Path,
) -> None:
    async with Receiver(in_turn(REFUSE_SECOND, Reply())) as receiver:
        async with running(tmp_path / "state", receiver) as life:
            await life.take(event(1), event(2), event(3))
            await life.until_empty()
            assert (life.ledger.delivered, life.ledger.dead_lettered) == (2, 1)
            receiver.script = in_turn(Reply(422, body=b'{"errors":[{"index":0,"message":"no"}]}'))
            assert await life.take(event(2), event(1)) == AcceptedSubmission(1, 1, [])
            await life.until_empty()
            assert life.ledger.dead_lettered == 2
        receiver.script = in_turn(Reply())
        async with running(tmp_path / "state", receiver) as life:
            assert await life.take(*events([1, 2, 3])) == AcceptedSubmission(1, 2, [])
            await life.until_empty()
            assert numbers_of(receiver.requests[-1]) == [2]
            assert await life.take(event(2)) == AcceptedSubmission(0, 1, [])
        async with running(tmp_path / "state", receiver) as life:
            assert await life.take(event(2)) == AcceptedSubmission(0, 1, [])


async def test_a_dead_letter_that_is_on_disk_has_freed_its_key_there_too(tmp_path: Path) -> None:
    async with Receiver(in_turn(Reply(422, body=b'{"errors":[{"index":0}]}'))) as receiver:
        async with running(tmp_path / "state", receiver) as life:
            await life.take(event(1))
            await life.until_empty()
            await life.crash(tmp_path / "image")
        async with running(tmp_path / "image", receiver, deliver=False) as life:
            assert life.rows("SELECT count(*) FROM letters") == [(1,)]
            assert await life.take(event(1)) == AcceptedSubmission(1, 0, [])


async def test_copies_of_events_that_are_still_on_their_way_are_known_after_a_restart(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        async with running(tmp_path / "state", receiver, deliver=False) as life:
            await life.take(*events(range(5)))
            await life.crash(tmp_path / "image")
        async with running(tmp_path / "image", receiver) as life:
            assert await life.take(*events(range(6))) == AcceptedSubmission(1, 5, [])
            await life.until_empty()
            await until(lambda: sorted(sent(receiver)) == list(range(6)))


async def test_a_request_with_much_to_look_at_keeps_no_other_waiting(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver, deliver=False) as life:
        large = life.submit(*[b'{"eventTime":[],"routingMetadata":{}}'] * 20_000)
        await turns()
        small = [life.submit(event(number)) for number in range(5)]
        await asyncio.wait([large, *small], return_when=asyncio.FIRST_COMPLETED)
        assert not large.done()
        assert [await one for one in small] == [AcceptedSubmission(1, 0, [])] * 5
        taken = await large
        assert isinstance(taken, AcceptedSubmission)
        assert (taken.accepted, len(taken.rejected), taken.unlisted) == (0, 100, 19_900)
        assert life.ledger.by_reason[Reason.INVALID] == 20_000
        await life.ingest.admission.finished()


async def test_two_large_requests_with_the_same_events_store_each_once(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver, deliver=False) as life:
        first, second = (life.submit(*events(range(5_000))) for _ in range(2))
        told = [await first, await second]
        assert sum(taken.accepted for taken in told if isinstance(taken, AcceptedSubmission)) == 5_000
        assert sum(taken.duplicates for taken in told if isinstance(taken, AcceptedSubmission)) == 5_000
