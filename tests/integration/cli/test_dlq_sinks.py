"""``ingestd dlq`` where there are several sinks: real letters in a real store, real receivers."""

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from click.testing import CliRunner, Result

from ingestd.app.letters.retry_result import RetryResult
from ingestd.cli.group import cli
from ingestd.config import load
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.store import new_letters
from ingestd.store.database import Database
from ingestd.store.lock import DirectoryLock
from ingestd.wiring.pipeline import open_pipeline
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio


def order(number: int, kind: str = "order") -> bytes:
    return b'{"id":"%d","kind":"%s"}' % (number, kind.encode())


LETTERS = [
    DeadLetter(order(1), Reason.GAVE_UP, "503", 1, 1, 1, sink="crm"),
    DeadLetter(order(1), Reason.REFUSED, "422 of hooks", 1, 1, 1, sink="hooks"),
    DeadLetter(order(2), Reason.INVALID, "kind: expected", 1, 2, 1),
    DeadLetter(order(3, "noise"), Reason.INVALID, "kind: expected", 1, 3, 1),
    DeadLetter(order(4), Reason.REFUSED, "404", 1, 4, 1, sink="gone"),
]
"""By number from 1: of crm, of hooks, of none yet (4 matches no pattern), of a sink that is gone."""


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    directory = tmp_path / "state"
    lock, database = DirectoryLock(directory), Database(directory)
    await database.open()
    await database.run(lambda connection: new_letters.insert_letters(connection, LETTERS, 1_000_000.0))
    await database.close()
    lock.release()
    return directory


async def dlq(state: Path, *words: object) -> Result:
    """In a thread, because the command has an event loop of its own."""
    arguments = ["dlq", str(words[0]), "--state-dir", str(state), *map(str, words[1:])]
    return await anyio.to_thread.run_sync(lambda: CliRunner().invoke(cli, arguments))


async def dlq_json(state: Path, *words: object) -> Any:
    done = await dlq(state, *words, "--json")
    assert not isinstance(done.exception, UserError), done.exception
    return json.loads(done.stdout)


@asynccontextmanager
async def sinks(tmp_path: Path, crm: Receiver, hooks: Receiver) -> AsyncIterator[Path]:
    """A configuration with two webhooks; crm wants orders only, hooks everything but noise."""
    async with crm, hooks:
        file = tmp_path / "ingestd.toml"
        file.write_text(
            "[schema]\nname = 'none.json'\n[delivery]\nstartup_timeout = '100ms'\n"
            f"[sinks.crm]\ntype = 'webhook'\nurl = '{crm.url}/crm'\nwhen = {{kind = ['order']}}\n"
            f"[sinks.hooks]\ntype = 'webhook'\nurl = '{hooks.url}/hooks'\n"
            "when = {kind = [{anything-but = 'noise'}]}\n".replace("none.json", str(tmp_path / "none.json"))
        )
        (tmp_path / "none.json").write_text('{"type": "object"}')
        yield file


def bodies(receiver: Receiver) -> list[bytes]:
    return [request.body for request in receiver.requests]


async def test_letters_tell_their_sink_and_those_rejected_before_routing_a_dash(state: Path) -> None:
    table = (await dlq(state, "list")).output.splitlines()
    at = table[0].index(" sink ")
    assert [[*line.split()[:2], line[at:].split()[0]] for line in table] == [
        ["id", "reason", "sink"],
        ["1", "gave_up", "crm"],
        ["2", "refused", "hooks"],
        ["3", "invalid", "-"],
        ["4", "invalid", "-"],
        ["5", "refused", "gone"],
    ]
    listed = await dlq_json(state, "list")
    assert [letter["sink"] for letter in listed["letters"]] == ["crm", "hooks", None, None, "gone"]
    assert "sink              hooks\n" in (await dlq(state, "show", 2)).output
    assert "sink              -\n" in (await dlq(state, "show", 3)).output
    assert (await dlq_json(state, "show", 2))["sink"] == "hooks"


async def test_every_command_takes_the_letters_of_one_sink(state: Path) -> None:
    listed = await dlq_json(state, "list", "--sink", "-")
    assert ([letter["id"] for letter in listed["letters"]], listed["total"]) == ([3, 4], 2)
    groups = (await dlq_json(state, "list", "--group", "--sink", "hooks"))["groups"]
    assert [group["example"] for group in groups] == [2]
    exported = (await dlq(state, "export", "--sink", "crm", "--json")).stdout
    assert (json.loads(exported)["id"], json.loads(exported)["sink"]) == (1, "crm")
    assert await dlq_json(state, "purge", "--sink", "gone", "--yes") == {"purged": 1}
    assert await dlq_json(state, "purge", "--sink", "nobody", "--yes") == {"purged": 0}
    listed = await dlq_json(state, "list")
    assert [letter["id"] for letter in listed["letters"]] == [1, 2, 3, 4]


async def test_a_letter_goes_to_its_own_sink_again_and_to_no_other(state: Path, tmp_path: Path) -> None:
    crm, hooks = Receiver(), Receiver()
    async with sinks(tmp_path, crm, hooks) as file:
        told = await dlq_json(state, "retry", "--sink", "hooks", "--config", file)
        assert (told["delivered"], told["failed"]) == (1, 0)
        assert (bodies(crm), bodies(hooks)) == ([], [order(1)])


async def test_a_rejected_event_goes_to_every_sink_that_it_matches_and_what_has_none_is_told(
    state: Path, tmp_path: Path
) -> None:
    crm, hooks = Receiver(), Receiver()
    async with sinks(tmp_path, crm, hooks) as file:
        trial = await dlq_json(state, "retry", "--all", "--config", file, "--dry-run")
        assert (trial["selected"], trial["sent"]) == (5, 3)
        done = await dlq(state, "retry", "--all", "--config", file, "--json")
        told = json.loads(done.stdout)
        assert (told["delivered"], told["failed"], done.exit_code) == (4, 0, 3)
        assert told["nowhere"] == {
            "4": "it matches the pattern of no sink",
            "5": "there is no sink gone: give the --config that has it",
        }
        assert sorted(bodies(crm)) == sorted(bodies(hooks)) == [order(1), order(2)]
    waiting = await dlq_json(state, "list")
    assert [letter["id"] for letter in waiting["letters"]] == [4, 5]


async def test_one_dead_sink_costs_the_letters_of_the_others_nothing(state: Path, tmp_path: Path) -> None:
    refused = asyncio.Event()

    def no_login(request: Request) -> Reply:
        refused.set()
        return Reply(401)

    async def late(request: Request) -> Reply:
        await refused.wait()
        return Reply()

    crm, hooks = Receiver(no_login), Receiver(late)
    async with sinks(tmp_path, crm, hooks) as file:
        login = (
            f"auth = {{type = 'oauth2', token_url = '{crm.url}/token', client_id = 'x', client_secret = 'y'}}"
        )
        file.write_text(file.read_text().replace("[sinks.crm]\n", f"[sinks.crm]\n{login}\n"))
        done = await dlq(state, "retry", 1, 2, "--config", file, "--json")
        told = json.loads(done.stdout)
        assert (told["delivered"], told["failed"], told["later"]) == (1, 0, 1), done.output
        assert done.exit_code == 4
        assert bodies(hooks) == [order(1)]
    assert [letter["id"] for letter in (await dlq_json(state, "list", "--sink", "crm"))["letters"]] == [1]


def change(state: Path, *statements: str) -> None:
    with closing(sqlite3.connect(state / "state.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def test_beside_a_process_what_has_no_sink_there_is_told_and_not_marked(
    state: Path, tmp_path: Path
) -> None:
    """Not as if that process sent it; which sinks this command knows is not asked."""
    crm, hooks = Receiver(), Receiver()
    async with sinks(tmp_path, crm, hooks) as file, running_life(state, file):
        there = ("retry", "--all", "--config", file)
        trial = await dlq_json(state, *there, "--dry-run")
        assert (trial["selected"], trial["sent"], list(trial["nowhere"])) == (5, 4, ["5"])
        (tmp_path / "any.json").write_text('{"type": "object"}')
        done = await dlq(state, "retry", 5, "--schema", tmp_path / "any.json")
        pid = os.getpid()
        assert done.stdout.splitlines() == [
            f"5: process {pid} has no sink gone, and none of that name is configured there",
            "nothing to mark",
        ]
        assert done.exit_code == 3
        done = await dlq(state, *there, "--json")
        told = json.loads(done.stdout)
        assert (told["marked"], told["nowhere_count"], list(told["nowhere"])) == (4, 1, ["5"])
        assert done.exit_code == 3
        (tmp_path / "order.json").write_bytes(order(5))
        edited = await dlq(state, "retry", 5, "--edit", tmp_path / "order.json", "--config", file)
        assert (edited.exit_code, "none of that name is configured there" in edited.stdout) == (3, True)
    (letter,) = (await dlq_json(state, "list", "--sink", "gone"))["letters"]
    assert (letter["id"], letter["edited"]) == (5, False)


@asynccontextmanager
async def running_life(state: Path, file: Path) -> AsyncIterator[None]:
    """The pipeline of a process that has the directory, and sends nothing."""
    async with open_pipeline(load(str(file), {}), None, state, clock=SystemClock(), warn=print) as pipeline:
        await pipeline.journal.commit()
        yield


def test_the_words_tell_who_goes_along_under_which_key() -> None:
    whole = "letters of the same requests go along, under the same keys: such a request is sent as it was"
    broken = "letters of the same requests go along, under new keys: these requests are not whole any more"
    for result, lines in (
        (RetryResult(together=2), [f"2 {whole}, or not at all"]),
        (
            RetryResult(together=2, rekeyed=2, risky=3),
            [f"2 {broken}", "3 are of requests that may have been"],
        ),
        (RetryResult(together=5, rekeyed=1), [f"4 {whole}, or not at all", f"1 {broken}"]),
        (RetryResult(dry_run=True, together=1, rekeyed=1), [f"1 {broken}"]),
        (RetryResult(process="7", marked=2, together=1), [f"1 {whole}, or not at all"]),
    ):
        told = result.words().splitlines()[1:]
        assert len(told) == len(lines)
        assert all(line.startswith(words) for line, words in zip(told, lines, strict=True)), told


async def test_a_damaged_letter_is_refused_and_what_was_put_aside_is_called_so(
    state: Path, tmp_path: Path
) -> None:
    change(state, "UPDATE single_letters SET checksum = checksum + 1 WHERE id = 1")
    crm, hooks = Receiver(), Receiver(lambda request: Reply(422))
    async with sinks(tmp_path, crm, hooks) as file:
        done = await dlq(state, "retry", 1, 2, "--config", file, "--json")
        told = json.loads(done.stdout)
        ends = ("sent", "delivered", "failed", "aside", "later", "invalid_count")
        assert [told[name] for name in ends] == [1, 0, 1, 0, 0, 1]
        assert "damaged on disk" in told["invalid"]["1"]
        assert done.exit_code == 3
        assert bodies(crm) == []
    (letter,) = (await dlq_json(state, "list", "--sink", "crm"))["letters"]
    assert letter["id"] == 1
    assert RetryResult(sent=1, aside=1).words().splitlines() == [  # damaged since it was marked
        "0 delivered, 0 failed, 0 not sent",
        "1 were not sent, and wait for a person now: `ingestd dlq list` says why",
    ]


async def test_beside_a_process_letters_are_marked_whatever_sinks_this_command_knows(
    state: Path, tmp_path: Path
) -> None:
    (tmp_path / "any.json").write_text('{"type": "object"}')
    lock = DirectoryLock(state)
    try:
        told = await dlq_json(state, "retry", "--sink", "gone", "--schema", tmp_path / "any.json")
        assert (told["selected"], told["marked"]) == (1, 1)
    finally:
        lock.release()
