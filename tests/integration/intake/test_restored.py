"""A state directory that was put back from a copy: it is told, and what follows is what was told."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ingestd.app.maintenance import warn_restored
from ingestd.store.origin import was_restored
from tests.integration.intake.support import Life, event, running, sent
from tests.receiver import Receiver, Reply

pytestmark = pytest.mark.anyio


def told(life: Life) -> list[str]:
    warnings: list[str] = []
    warn_restored(life.pipeline, warnings.append)
    return warnings


async def test_a_copy_that_was_put_back_is_told_once_and_sends_what_waited_in_it_again(
    tmp_path: Path,
) -> None:
    state, copy = tmp_path / "state", tmp_path / "copy"
    given: dict[str, Any] = {"audit": {"file": str(tmp_path / "audit.jsonl")}}
    async with Receiver(lambda _: Reply()) as receiver:
        async with running(state, receiver, deliver=False, **given) as life:
            assert told(life) == []
            await life.take(event(1), event(2))
        shutil.copytree(state, copy)  # while it is stopped
        async with running(state, receiver, **given) as life:
            assert told(life) == []
            await life.until_empty()
            await life.take(event(3))
            await life.until_empty()
        assert sorted(sent(receiver)) == [1, 2, 3]
        os.rename(state, moved := tmp_path / "moved")
        async with running(moved, receiver, **given) as life:
            assert told(life) == [], "another name is no copy"
        shutil.rmtree(moved)
        shutil.copytree(copy, state)
        assert was_restored(state)
        async with running(state, receiver, deliver=False, **given) as life:
            (words,) = told(life)
            assert "2 events of its spool and 0 dead letters wait" in words
            life.deliver()
            await life.until_empty()
            assert sorted(sent(receiver)) == [1, 1, 2, 2, 3], "what was delivered since then goes again"
            assert (await life.take(event(3))).accepted == 1, "a later event is not known"
            assert (await life.take(event(1))).duplicates == 1
        assert not was_restored(state)
        async with running(state, receiver, **given) as life:
            assert told(life) == []
    assert (tmp_path / "audit.jsonl").read_text().count("STATE_RESTORED") == 1
