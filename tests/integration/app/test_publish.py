"""``ingestd publish``: one event by hand, its published, and the exit code to match."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingestd.app.publish.publication import MAX_ATTEMPTS, Publication, PublishOutcome
from ingestd.cli.group import cli
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.delivery.event_status import StatusReader
from ingestd.delivery.status_client import StatusClient
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.server import Sandbox
from ingestd.sinks import answer_body
from ingestd.sinks.answers import AnswerReader
from ingestd.sinks.cloudevents import PATH, CloudEventsSink
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Auth, Client, Sender
from tests.each import each
from tests.machine import patience
from tests.receiver import Action, Cut, Hang, Receiver, Reply, Request, in_turn

EVENT = b'{"specversion":"1.0","id":"o-1","source":"com.example","type":"order.created","data":{"n":1.50}}'


class QuickClock(SystemClock):
    """Jumps where a lane would have to wait for longer than an answer takes here."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def monotonic(self) -> float:  # type: ignore[override]
        return time.monotonic() + self._ahead_s

    def wall(self) -> float:  # type: ignore[override]
        return time.time() + self._ahead_s

    @asynccontextmanager
    async def timeout(self, seconds: float | None) -> AsyncIterator[None]:  # type: ignore[override]
        try:
            async with asyncio.timeout(seconds and min(seconds, 0.05)):
                yield
        except TimeoutError:
            self._ahead_s += max(0.0, (seconds or 0.0) - 0.05)
            raise


def answer(code: int, /, **body: Any) -> Reply:
    return Reply(code, body=json.dumps(body).encode())


TAKEN = answer(202, id="evt/1", specversion="1.0", status="accepted", deliveryStatus="pending")


def told(status: object, **more: Any) -> Reply:
    return answer(200, id="evt/1", status=status, **more)


class Impatient(QuickClock):
    """Asks again at once: only a timeout takes its time."""

    timeout = staticmethod(asyncio.timeout)

    async def sleep(self, seconds: float) -> None:  # type: ignore[override]
        await SystemClock.sleep(min(seconds, 0.02))
        self._ahead_s += max(0.0, seconds - 0.02)


@asynccontextmanager
async def publishing(*posts: Action, then: Action | None = None) -> AsyncIterator["Bench"]:
    """An API that answers the posts in turn, and every question with ``then``."""
    answers = in_turn(*posts)

    def script(request: Request) -> Action:
        found = answers(request) if request.method == "POST" else (then or Reply(404))
        assert isinstance(found, Action)
        return found

    async with Receiver(script) as api, Client(timeout_s=patience(5)) as client:
        yield Bench(api, client)


class Bench:
    def __init__(self, api: Receiver, client: Client) -> None:
        self.api = api
        self.clock = QuickClock()
        self.told: list[str] = []
        self.sink = CloudEventsSink(url=api.url + PATH, reading=AnswerReader(expect_json=True))
        self.publication = Publication(self.sink, self.clock, self.told.append, random.Random(1))
        self.result = self.publication.result
        self._client = client

    async def send(self, auth: Auth | None = None) -> PublishOutcome:
        await self.publication.send(EVENT, Sender(self._client, auth or NoAuth()))
        return self.result.outcome

    async def follow(self, within_s: float = 5.0) -> PublishOutcome:
        self.publication.clock = Impatient()
        self.publication.started = self.publication.clock.monotonic()
        status_client = StatusClient(self._client, NoAuth(), SystemClock())
        reader = StatusReader(safe_text=answer_body.safe_text)
        await self.publication.follow(self.sink.url + "/{id}", reader, status_client, within_s=within_s)
        return self.result.outcome


# sending


@pytest.mark.anyio
async def test_an_accepted_event_has_the_id_that_the_api_gave_it() -> None:
    async with publishing(TAKEN) as bench:
        assert await bench.send() is PublishOutcome.ACCEPTED
    assert (bench.result.id, bench.result.status, bench.result.exit_code) == ("evt/1", 202, 0)
    (request,) = bench.api.requests
    assert (request.method, request.path, request.body) == ("POST", PATH, EVENT)
    assert request.headers["idempotency-key"] == bench.result.key != ""


@pytest.mark.anyio
async def test_without_a_clear_answer_the_same_bytes_go_out_again_under_the_same_key() -> None:
    faults = (Cut(), answer(503), Reply(429, headers={"Retry-After": "7"}))
    async with publishing(*faults, TAKEN) as bench:
        assert await bench.send() is PublishOutcome.ACCEPTED
    assert (
        len({(r.body, r.headers["idempotency-key"], r.headers["x-request-id"]) for r in bench.api.requests})
        == 1
    )
    assert (bench.result.attempts, len(bench.told)) == (4, 3)
    assert bench.result.seconds >= 7


@pytest.mark.anyio
async def test_attempts_are_few_and_what_may_have_been_taken_is_told() -> None:
    async with publishing(Cut()) as bench:
        assert await bench.send() is PublishOutcome.UNAVAILABLE
    assert len(bench.api.requests) == bench.result.attempts == MAX_ATTEMPTS
    assert bench.result.maybe_accepted
    assert bench.result.as_dict()["maybe_taken"]  # of `--json`
    assert bench.result.exit_code == 4


@pytest.mark.anyio
@each(
    "strange",
    [Reply(body=b"<!DOCTYPE html><title>Sign in</title>"), Cut("mid_body"), Reply(body=b'{"id":')],
    ids=["a web page", "cut off", "half"],
)
async def test_what_is_not_the_apis_answer_is_no_acceptance(strange: Action) -> None:
    async with publishing(strange) as bench:
        assert await bench.send() is PublishOutcome.UNAVAILABLE
    assert (len(bench.api.requests), bench.result.maybe_accepted, bench.result.exit_code) == (
        MAX_ATTEMPTS,
        True,
        4,
    )
    assert "the API" in bench.result.detail or "the answer" in bench.result.detail
    async with publishing(strange, TAKEN) as bench:
        assert await bench.send() is PublishOutcome.ACCEPTED
    assert len({(request.body, request.headers["idempotency-key"]) for request in bench.api.requests}) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"errors": [{"code": "bad.type", "message": "no such type"}]}, "no such type"),
        ({"success": False, "id": "evt/1"}, '"success"'),
    ],
)
async def test_an_answer_that_names_errors_is_no_acceptance_whatever_its_status(
    body: Any, words: str
) -> None:
    async with publishing(answer(200, **body)) as bench:
        assert await bench.send() is PublishOutcome.REFUSED
    assert (len(bench.api.requests), bench.result.exit_code, bench.result.maybe_accepted) == (1, 3, False)
    assert words in bench.result.detail


@pytest.mark.anyio
async def test_while_nothing_is_heard_that_is_told_again_and_again() -> None:
    """Five attempts at an API that never answers take more than a minute and a half."""
    async with publishing(Hang(), then=Hang()) as bench:
        bench.publication.clock = Impatient()
        sending = asyncio.ensure_future(bench.send())
        while len(bench.told) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        sending.cancel()
        await asyncio.wait([sending])
        assert bench.told[0] == "attempt 1 of 5: no answer (5s)"
        bench.result.id, told = "evt/1", len(bench.told)
        assert await bench.follow(within_s=patience(0.3)) is PublishOutcome.TIMED_OUT
    assert bench.told[told].startswith("not delivered yet: no answer (5")


@pytest.mark.anyio
async def test_an_api_that_wants_to_be_left_alone_for_long_is_left_alone() -> None:
    async with publishing(Reply(429, headers={"Retry-After": "600"})) as bench:
        assert await bench.send() is PublishOutcome.UNAVAILABLE
    assert len(bench.api.requests) == 1
    assert "10m of rest" in bench.result.detail


@pytest.mark.anyio
@each(
    ("status", "outcome", "code", "requests"),
    [
        (400, PublishOutcome.REFUSED, 3, 1),
        (422, PublishOutcome.REFUSED, 3, 1),
        (413, PublishOutcome.REFUSED, 3, 1),
        (402, PublishOutcome.UNAVAILABLE, 4, 1),
        (403, PublishOutcome.UNAVAILABLE, 4, 1),
        (404, PublishOutcome.UNAVAILABLE, 4, 1),
        (302, PublishOutcome.UNAVAILABLE, 4, 1),
        (401, PublishOutcome.UNAVAILABLE, 4, 2),
        (409, PublishOutcome.ACCEPTED, 0, 1),
        (200, PublishOutcome.ACCEPTED, 0, 1),
    ],
)
async def test_each_answer_has_its_exit_code(
    status: int, outcome: PublishOutcome, code: int, requests: int
) -> None:
    async with publishing(answer(status, message="said by the API")) as bench:
        assert await bench.send() is outcome
    assert bench.result.exit_code == code
    assert len(bench.api.requests) == requests
    assert code == 0 or "said by the API" in bench.result.detail


@pytest.mark.anyio
async def test_a_refused_token_is_renewed_once() -> None:
    class Renewed(NoAuth):
        token = "old"

        async def headers(
            self, url: str, body: bytes, headers: Mapping[str, str]
        ) -> tuple[dict[str, str], int]:
            return {"Authorization": f"Bearer {self.token}"}, 1

        def drop(self, generation: int) -> None:
            self.token = "new"

    async with publishing(Reply(401), TAKEN) as bench:
        assert await bench.send(Renewed()) is PublishOutcome.ACCEPTED
    assert [r.headers["authorization"] for r in bench.api.requests] == ["Bearer old", "Bearer new"]


@pytest.mark.anyio
async def test_an_event_that_is_too_large_is_not_sent() -> None:
    async with publishing(TAKEN) as bench:
        bench.sink.max_bytes = len(EVENT) - 1
        with pytest.raises(UserError, match=f"the event has {len(EVENT)} bytes"):
            await bench.send()
    assert bench.api.requests == []


# following


@pytest.mark.anyio
async def test_it_is_followed_until_it_is_delivered_whatever_the_questions_meet() -> None:
    answers = in_turn(Reply(404), answer(500), told("accepted"), Cut(), told("Delivered"))
    async with publishing(TAKEN) as bench:
        script = bench.api.script
        bench.api.script = lambda request: answers(request) if request.method == "GET" else script(request)
        await bench.send()
        assert await bench.follow() is PublishOutcome.DELIVERED
    questions = [request for request in bench.api.requests if request.method == "GET"]
    assert {request.path for request in questions} == {PATH + "/evt%2F1"}
    assert len(questions) == 5
    assert bench.result.exit_code == 0


@pytest.mark.anyio
async def test_a_failed_event_is_told_with_the_reason() -> None:
    async with publishing(TAKEN, then=told("failed", error={"code": "bus.gone"})) as bench:
        await bench.send()
        assert await bench.follow() is PublishOutcome.FAILED
    assert "bus.gone" in bench.result.detail
    assert bench.result.exit_code == 3


@pytest.mark.anyio
@each("then", [told("accepted"), Hang(), Reply(404)])
async def test_waiting_ends_when_its_time_is_over(then: Action) -> None:
    async with publishing(TAKEN, then=then) as bench:
        await bench.send()
        assert await bench.follow(within_s=0.1) is PublishOutcome.TIMED_OUT
    assert bench.result.detail.startswith("not known within 100ms")
    assert bench.result.exit_code == 3


@pytest.mark.anyio
async def test_without_an_id_there_is_nothing_to_ask_about() -> None:
    async with publishing(answer(202)) as bench:
        assert await bench.send() is PublishOutcome.ACCEPTED
        assert await bench.follow() is PublishOutcome.TIMED_OUT
    assert len(bench.api.requests) == 1


# the command


async def invoke(*words: str, given: bytes | None = None) -> tuple[int, str]:
    """(exit code, standard output and error) of the command, in a thread with a loop of its own."""
    shown = await asyncio.to_thread(CliRunner().invoke, cli, ["publish", *words], input=given)
    return shown.exit_code, shown.output


@pytest.mark.anyio
async def test_a_sink_of_the_configuration_is_asked_and_signed_in_its_own_way(tmp_path: Path) -> None:
    def script(request: Request) -> Reply:
        assert request.headers["authorization"] == "Bearer CANARY-secret-1"
        if request.method == "POST":
            return answer(201, id="7", status="queued", specversion="1.0")
        return answer(200, state="LOST", message="Bearer CANARY-secret-1")

    async with Receiver(script) as api:
        (tmp_path / "token").write_text("CANARY-secret-1")
        (tmp_path / "c.toml").write_text(
            f'[sinks.orders]\ntype = "cloudevents"\nurl = "{api.url}/in"\n'
            f'wrap = {{type = "order", source = "shop"}}\n'
            f'auth = {{type = "bearer", token_file = "{tmp_path / "token"}"}}\n'
            f'confirm = {{url = "{api.url}/states/{{id}}", status = "state", failed = ["lost"]}}\n'
        )
        config = str(tmp_path / "c.toml")
        code, out = await invoke('{"n":1}', "--sink", "orders", "--config", config, "--wait=20s")
    assert code == 3
    assert out.startswith("accepted   7  (201, key ")
    assert "failed: state: LOST" in out
    assert "CANARY" not in out
    assert [request.path for request in api.requests] == ["/in", "/states/7"]
    assert api.requests[0].json()["data"] == {"n": 1}


SECRET = "whsec_" + "A" * 32
SINKS = """
[sinks.bridge]
type = "cloudevents"
url = "{url}/api/v2/eventbridge/events"
confirm = {{url = "{url}/api/v2/eventbridge/events/{{id}}"}}
auth = {{type = "oauth2", token_url = "{url}/oauth/token", client_id = "sandbox", client_secret = "sandbox"}}
[sinks.hook]
type = "webhook"
url = "{url}/hooks/x"
handshake_origin = "events.example.com"
auth = {{type = "standard_webhooks", secret = "{secret}"}}
"""


@pytest.mark.anyio
async def test_a_hook_that_wants_to_be_asked_and_signed_is_asked_and_signed(tmp_path: Path) -> None:
    options = SandboxOptions(schema=None, webhook_secrets=[SECRET], handshake_required=True)
    async with Sandbox(options).serve() as sandbox:
        (tmp_path / "c.toml").write_text(SINKS.format(url=sandbox.url, secret=SECRET))
        code, out = await invoke('{"n":1}', "--config", str(tmp_path / "c.toml"), "--sink", "hook")
        assert (code, sandbox.sandbox.kept("/hooks/x")) == (0, [b'{"n":1}']), out
