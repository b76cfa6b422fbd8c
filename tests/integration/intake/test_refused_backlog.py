"""A spool that filled its disk, of events which the API then refuses: as dead letters they need more room
than they had."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from ingestd.config.spool_section import MIN_BALLAST_BYTES
from ingestd.core.submission import AcceptedSubmission
from tests.integration.intake.support import DEADLINE_S, Life, event, posted, running, webhook
from tests.integration.store.tmpfs import fill, small_disk
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio

EACH = 50


async def _fill(life: Life) -> int:
    taken = 0
    while True:  # alike, so the spool holds them compressed, and letters as they are
        numbers = range(taken, taken + EACH)
        if not isinstance(await life.submit(*[event(n, pad=5_000) for n in numbers]), AcceptedSubmission):
            return taken
        taken += EACH


async def test_letters_for_which_there_is_no_room_wait_for_it_and_none_is_lost(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def refuse(request: Request) -> Reply:
        errors = [{"index": index, "message": "no"} for index in range(len(posted(request)))]
        await gate.wait()
        return Reply(body=json.dumps({"errors": errors}).encode())

    with small_disk(tmp_path / "disk", megabytes=64) as disk:
        async with Receiver(refuse) as receiver:
            answers = {"items": "errors", "index": "index", "message": "message"}
            async with running(
                disk,
                sinks={"a": webhook(receiver, max_events=EACH, answers=answers)},
                spool={"ballast": MIN_BALLAST_BYTES},
                audit={"file": str(tmp_path / "a")},
            ) as life:
                filler = fill(disk)
                os.truncate(filler, filler.stat().st_size - 2 * 1024 * 1024)
                taken = await _fill(life)
                gate.set()
                spool, left = life.ingest.spool, 0
                async with asyncio.timeout(DEADLINE_S):
                    while left != spool.events or not life.pipeline.database.blocked:  # as long as it can
                        left = spool.events
                        await asyncio.sleep(1.2)
                        life.assert_alive()
                assert 0 < left < taken
                assert (await life.refuse(event(9_999))).status == 503
                assert "free some space, and it goes on by itself" in str(life.pipeline.database.blocked)
                filler.unlink()
                await life.until_empty()
                assert life.ledger.dead_lettered == taken
                assert life.rows("SELECT count(*) FROM letters") == [(taken,)]
