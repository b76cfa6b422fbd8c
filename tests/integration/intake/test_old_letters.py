"""A replay sends dead letters of earlier runs again: it ends well only if that ended well."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.each import each
from tests.integration.intake.replay_support import Place, rows, sink
from tests.integration.intake.support import event, numbers_of
from tests.receiver import Action, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

OLD, NEW = 1, 2
REFUSED = Reply(422, body=b'{"errors":[{"index":0,"message":"no such queue"}]}')


class Api:
    """Takes everything, but this answer is for requests with the event of the earlier run."""

    def __init__(self) -> None:
        self.to_old: Reply = Reply(500)

    def __call__(self, request: Request) -> Action:
        return self.to_old if OLD in numbers_of(request) else Reply()


def write(path: Path, number: int) -> Path:
    path.write_bytes(event(number) + b"\n")
    return path


async def leave_a_letter(place: Place, tmp_path: Path) -> None:
    """It is due at once."""
    report = await place.run(write(tmp_path / "old.ndjson", OLD))
    assert (report["dead_lettered"], report["exit_code"]) == (1, 3)
    with closing(sqlite3.connect(place.directory / "state.db")) as connection, connection:
        connection.execute("UPDATE single_letters SET due = 1.0")


async def test_a_replay_that_leaves_an_older_letter_to_a_person_ends_with_3_once(tmp_path: Path) -> None:
    """It was due, and is too old by now to go out by itself."""
    api = Api()
    async with Receiver(api) as receiver:
        place = Place(tmp_path / "state", {"a": sink(receiver)}, {"delivery": {"max_attempts": 1}})
        await leave_a_letter(place, tmp_path)
        with closing(sqlite3.connect(place.directory / "state.db")) as connection, connection:
            connection.execute("UPDATE single_letters SET first_sent = 1.0, first_failed = 1.0")
        source = write(tmp_path / "new.ndjson", NEW)
        report = await place.run(source)
        assert (report["delivered"], report["retried_aside"], report["exit_code"]) == (1, 1, 3)
        assert [report["retried_failed"], report["retried_delivered"]] == [0, 0]
        assert any("1 dead letters wait for a person now" in warning for warning in place.warnings)
        assert (await place.run(source))["exit_code"] == 0, "nobody has to be told again"
    assert rows(place.directory, "SELECT state, due FROM letters") == [("waiting", None)]


@each("several", [False, True])
@each(
    ("answer", "ended", "code"),
    [
        (Reply(500), {"retried_failed": 1, "retried_delivered": 0}, 3),
        (REFUSED, {"retried_failed": 1, "retried_delivered": 0}, 3),
        (Reply(), {"retried_failed": 0, "retried_delivered": 1}, 0),
    ],
    ids=["given up again", "refused", "taken"],
)
async def test_a_replay_whose_retry_of_an_older_letter_fails_ends_with_3(
    tmp_path: Path, answer: Reply, ended: dict[str, int], code: int, *, several: bool
) -> None:
    api = Api()
    async with Receiver(api) as receiver, Receiver() as fine:
        sinks = {"a": sink(receiver), **({"b": sink(fine)} if several else {})}
        place = Place(tmp_path / "state", sinks, {"delivery": {"max_attempts": 1, "startup_timeout": 30}})
        await leave_a_letter(place, tmp_path)
        api.to_old = answer
        report = await place.run(write(tmp_path / "new.ndjson", NEW))
    assert (report["accepted"], report["delivered"], report["dead_lettered"]) == (1, 1, 0), (
        "its own went well"
    )
    assert {name: report[name] for name in ended} == ended
    assert {name: report["sinks"]["a"][name] for name in ended} == ended
    assert report["exit_code"] == code
    assert rows(place.directory, "SELECT state FROM letters") == [("delivered" if code == 0 else "waiting",)]
