"""``ingestd dlq`` and requests that may have been taken: what a person is told of their other letters,
also by a dry run."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingestd.app.letters.retry import retry
from ingestd.app.letters.retry_result import RetryResult
from ingestd.cli.group import cli
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.store.connection import FILE_NAME, connect
from ingestd.store.dead_letters import Filter
from ingestd.store.lock import DirectoryLock
from ingestd.store.new_letters import insert_letters


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Letters 1 to 3: one request, that an API may have."""
    connection = connect(tmp_path / FILE_NAME)
    letters = [
        DeadLetter(
            b'{"id":"%d"}' % n, Reason.GAVE_UP, "503", 1, n, n, batch="b", batch_index=n, batch_size=3,
            ambiguous=True, first_sent_wall=2e9,
        )
        for n in range(3)
    ]  # fmt: skip
    insert_letters(connection, letters, 2e9)
    connection.close()
    (tmp_path / "schema.json").write_text('{"type":"object"}')
    return tmp_path


def wanted(state: Path, *numbers: int, **options: Any) -> RetryResult:
    """Beside a process that has the directory, and sends nothing."""
    given = {("state", "dir"): str(state), ("schema", "name"): str(state / "schema.json")}
    given |= {("api", "url"): "http://127.0.0.1:1"}
    options = {"payload": None, "dry_run": False, **options}
    lock = DirectoryLock(state)
    try:
        return retry(Filter(ids=numbers), given, config_file=None, warn=print, **options)
    finally:
        lock.release()


def dlq(state: Path, *words: str) -> str:
    return CliRunner().invoke(cli, ["dlq", *words, "--state-dir", str(state)]).output


def corrected(payload: bytes) -> bytes:
    return payload.replace(b'"}', b'0"}')


def test_an_edit_of_one_leaves_the_others_and_says_so_before_too(state: Path) -> None:
    trial = wanted(state, 2, payload=b'{"id":"x"}', dry_run=True)
    assert (trial.sent, trial.left, trial.risky, trial.together) == (1, 2, 1, 0)
    assert "2 other letters of the same requests, which may have been taken, would wait" in trial.words()
    done = wanted(state, 2, payload=b'{"id":"x"}')
    assert (done.marked, done.left, done.risky) == (1, 2, 1)
    assert "wait for a person now" in done.words()


def test_an_edit_of_all_leaves_none(state: Path) -> None:
    trial = wanted(state, edit=corrected, dry_run=True)
    assert (trial.sent, trial.left, trial.risky) == (3, 0, 3)
    done = wanted(state, edit=corrected)
    assert (done.marked, done.left, done.risky) == (3, 0, 3)
    assert "wait" not in done.words()


def test_what_is_left_of_a_request_is_sent_by_who_is_told_of_the_risk(state: Path) -> None:
    assert "what to do" not in dlq(state, "show", "1")
    dlq(state, "purge", "2", "--yes")
    (told,) = [line for line in dlq(state, "show", "1").splitlines() if line.startswith("what to do")]
    assert "`ingestd dlq retry 1`" in told
    assert "`ingestd dlq purge 1`" in told
    trial = wanted(state, 1, dry_run=True)
    assert (trial.together, trial.rekeyed, trial.risky) == (1, 1, 2)
    assert "2 are of requests that may have been taken" in trial.words()
    done = wanted(state, 1)
    assert (done.marked, done.together, done.rekeyed, done.risky) == (2, 1, 1, 2)
    assert "what to do" not in dlq(state, "show", "3"), "a person has told that it is to be sent"
