import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.core.clock import SystemClock
from ingestd.lake.callback import MAX_QUEUED, Callback
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Client, Sender
from ingestd.transport.webhook_secret import decode_secret
from ingestd.transport.webhook_signature import StandardWebhooks, sign
from tests.integration.lake.support import (
    Store,
    add,
    event,
    events_in,
    lake_in,
    names,
    opened,
    running,
    until,
)
from tests.receiver import Receiver, Reply, in_turn

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + "A" * 32
AT_ONCE = Backoff(base_s=0.01, cap_s=0.02)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Client() as client:
        yield client


async def test_each_file_is_told_of_once_it_is_in_the_lake_signed_if_there_is_a_secret(
    client: Client, tmp_path: Path
) -> None:
    root = tmp_path / "lake"
    auth = StandardWebhooks(SECRET, clock=SystemClock())
    async with Receiver() as receiver:
        callback = Callback(Sender(client, auth), receiver.url + "/told", warn=print)
        async with (
            opened(tmp_path / "state") as database,
            lake_in(database, Store(root), file_age_s=0.01, callback=callback) as lake,
            running(lake),
        ):
            await add(database, lake, [event(1, kind="a"), event(2, kind="b")])
            await until(lambda: callback.sent == 2)
    assert sorted(request.json()["name"] for request in receiver.requests) == names(root)
    for request in receiver.requests:
        headers = request.headers
        expected = sign(
            decode_secret(SECRET), headers["webhook-id"], headers["webhook-timestamp"], request.body
        )
        assert headers["webhook-signature"] == expected
    ids = {request.headers["webhook-id"] for request in receiver.requests}
    assert len(ids) == 2


async def test_a_callback_is_tried_again_under_the_same_id(client: Client) -> None:
    async with Receiver(in_turn(Reply(503), Reply(401), Reply(204, body=b""))) as receiver:
        callback = Callback(Sender(client, NoAuth()), receiver.url, warn=print, backoff=AT_ONCE)
        callback.notify("file", b"{}")
        for _ in range(3):
            await callback._turn()
    assert (callback.sent, callback.failed, callback.queued) == (1, 0, 0)
    assert len({request.headers["idempotency-key"] for request in receiver.requests}) == 1


async def test_a_receiver_that_never_answers_well_costs_nothing_but_its_callbacks(
    client: Client, tmp_path: Path
) -> None:
    root, warnings = tmp_path / "lake", list[str]()
    async with Receiver(in_turn(Reply(500, body=b"Bearer CANARY-secret"))) as receiver:
        callback = Callback(
            Sender(client, NoAuth()),
            receiver.url + "/CANARY",
            warn=warnings.append,
            max_attempts=3,
            backoff=AT_ONCE,
        )
        async with (
            opened(tmp_path / "state") as database,
            lake_in(database, Store(root), file_age_s=0.01, callback=callback) as lake,
            running(lake),
        ):
            await add(database, lake, [event(1)])
            await until(lambda: callback.failed == 1)
            await add(database, lake, [event(2)])
            await until(lambda: callback.failed == 2)
    assert len(receiver.requests) == 6
    assert events_in(root) == [event(1), event(2)]
    assert len(warnings) == 2
    assert "CANARY" not in "".join(warnings)


async def test_on_the_way_out_each_callback_that_waits_is_tried_once(client: Client, tmp_path: Path) -> None:
    async with Receiver(in_turn(Reply(500), Reply(200))) as receiver:
        callback = Callback(Sender(client, NoAuth()), receiver.url, warn=lambda words: None)
        async with (
            opened(tmp_path / "state") as database,
            lake_in(database, Store(tmp_path / "lake"), callback=callback) as lake,
        ):
            await add(database, lake, [event(1, kind="a"), event(2, kind="b")])
            await lake.drain(5)
    assert (callback.sent, callback.failed, callback.queued) == (1, 1, 0)
    assert {json.loads(request.body)["events"] for request in receiver.requests} == {1}


def test_callbacks_that_wait_are_bounded() -> None:
    class Nobody:
        async def send(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
            raise AssertionError

        def drop_token(self, generation: int) -> None:
            raise AssertionError

    warnings: list[str] = []
    callback = Callback(Nobody(), "https://host/secret", warn=warnings.append)
    for number in range(MAX_QUEUED + 5):
        callback.notify(str(number), b"{}")
    assert (callback.queued, callback.failed, len(warnings)) == (MAX_QUEUED, 5, 5)
