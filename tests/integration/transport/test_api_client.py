"""The control plane's client against a real server: retries, pace, errors, secrets. The test owns time."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingestd.core.errors import Unreachable, UserError
from ingestd.transport.api_client import AmbiguousRequest, ApiClient, ApiError, gather
from ingestd.transport.api_pace import ApiPace
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Client
from ingestd.transport.oauth import TokenSource
from tests.each import each
from tests.integration.transport.support import FakeClock
from tests.machine import patience
from tests.receiver import Action, Cut, Hang, Raw, Receiver, Reply, Request, Script, in_turn

pytestmark = pytest.mark.anyio

PATH = "/api/v2/integrations/eventbridge/targets"
SECRET = "correct-horse-battery"
LATER = {"Retry-After": "7"}


class Call:
    """One attempt as it was told for the audit file."""

    def __init__(self, *told: Any) -> None:
        self.method, self.path, self.status, self.seconds, self.correlation_id = told


class Calling:
    """An ApiClient with what it talks to. ``calls``: told by ``on_request``."""

    def __init__(self, receiver: Receiver, client: Client, options: dict[str, Any]) -> None:
        self.receiver, self.clock = receiver, FakeClock()
        self.calls: list[Call] = []
        self.login = TokenSource(
            client,
            token_url=f"{receiver.url}/oauth/token",
            client_id="id",
            client_secret=SECRET,
            clock=self.clock,
        )
        self.api = ApiClient(
            client,
            self.login if options.pop("login", False) else NoAuth(),
            base_url=receiver.url + options.pop("below", ""),
            clock=self.clock,
            on_request=lambda *told: self.calls.append(Call(*told)),
            **options,
        )

    @property
    def slept_s(self) -> float:
        return sum(self.clock.slept)


@asynccontextmanager
async def calling(
    script: Script | Action, *, timeout_s: float = patience(5.0), **options: Any
) -> AsyncIterator[Calling]:
    before = asyncio.all_tasks()
    script = script if callable(script) else in_turn(script)
    async with Receiver(script) as receiver, Client(timeout_s=timeout_s) as client:
        found = Calling(receiver, client, options)
        yield found
        await found.login.aclose()
    assert asyncio.all_tasks() == before


def answer(content: Any = None, status: int = 200, **headers: str) -> Reply:
    return Reply(status, headers, b"" if content is None else json.dumps(content).encode())


def error(status: int, code: str, message: str, **more: Any) -> Reply:
    return answer({"status": status, "code": code, "message": message, "contextId": "ctx-1"} | more, status)


async def test_json_goes_out_and_comes_back() -> None:
    async with calling(answer({"id": "t-1"}, 201)) as found:
        assert await found.api.post(PATH, {"name": "é"}) == {"id": "t-1"}
        assert await found.api.get(PATH, params={"name": "a b&c"}) == {"id": "t-1"}
    post, get = found.receiver.requests
    assert (post.method, post.path, post.json()) == ("POST", PATH, {"name": "é"})
    assert post.headers["content-type"] == "application/json"
    assert (get.method, get.path, get.body) == ("GET", f"{PATH}?name=a+b%26c", b"")


@each("status", [200, 201, 202, 204])
async def test_every_2xx_is_success_and_an_empty_body_is_none(status: int) -> None:
    """Seeds: 201 here, 201 or 202 there, 200 elsewhere; the others were failures."""
    async with calling(answer(None, status)) as found:
        assert await found.api.put(PATH, {}) is None
    assert len(found.receiver.requests) == 1


async def test_a_token_that_is_refused_is_replaced_once() -> None:
    granted = iter(range(1, 10))

    def script(request: Request) -> Reply:
        if request.path == "/oauth/token":
            return answer({"access_token": f"token-{next(granted)}", "expires_in": 3600})
        fine = request.headers["authorization"] == "Bearer token-2"
        return answer({"ok": 1}) if fine else error(401, "bad.credentials", "no")

    async with calling(script, login=True) as found:
        assert await found.api.post(PATH, {}) == {"ok": 1}
    assert len(found.receiver.requests) == 4


async def test_a_second_401_is_an_error_of_the_login_and_not_a_loop() -> None:
    def script(request: Request) -> Reply:
        if request.path == "/oauth/token":
            return answer({"access_token": "a-secret-token", "expires_in": 3600})
        return error(401, "bad.credentials", f"unknown: {request.headers['authorization'][7:]}")

    async with calling(script, login=True) as found:
        with pytest.raises(ApiError) as refused:
            await found.api.get(PATH)
    assert (refused.value.status, refused.value.exit_code) == (401, 4)
    assert "a-secret-token" not in str(refused.value)
    assert [call.status for call in found.calls] == [401, 401]


@each("method", ["get", "put", "delete"])
@each("trouble", [answer({}, 503), answer({}, 429), answer({}, 500), Cut(), Cut("mid_body")])
async def test_what_can_be_repeated_is_repeated(method: str, trouble: Action) -> None:
    async with calling(in_turn(trouble, trouble, answer({}))) as found:
        call = getattr(found.api, method)
        await (call(PATH, {}) if method == "put" else call(PATH))
    assert len(found.receiver.requests) == 3


@each("method", ["post", "patch"])
@each("trouble", [answer({}, 500), answer({}, 502), answer({}, 503), answer({}, 408), Cut(), Cut("mid_body")])
async def test_what_may_have_been_done_is_never_sent_again(method: str, trouble: Action) -> None:
    """Seed 003 and the SDK send it again: two of it."""
    async with calling(trouble) as found:
        with pytest.raises(AmbiguousRequest, match="may have been done or not"):
            await getattr(found.api, method)(PATH, {"name": "x"})
    assert (len(found.receiver.requests), found.clock.slept) == (1, [])


async def test_a_created_thing_whose_answer_nobody_understands_may_have_been_made() -> None:
    async with calling(Reply(201, body=b"<html>")) as found:
        with pytest.raises(AmbiguousRequest):
            await found.api.post(PATH, {})
        with pytest.raises(UserError, match="not with JSON"):
            await found.api.get(PATH)


@each("refusal", [answer({}, 503, **LATER), answer({}, 429, **LATER), answer({}, 429)])
async def test_a_post_that_was_certainly_not_taken_is_sent_again(refusal: Reply) -> None:
    async with calling(in_turn(refusal, answer({"id": "t-1"}))) as found:
        assert await found.api.post(PATH, {}) == {"id": "t-1"}
    assert len(found.receiver.requests) == 2


async def test_a_post_is_repeated_while_nobody_listens_and_never_becomes_ambiguous() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clock = FakeClock()
    calls: list[int] = []
    async with Client() as client:
        api = ApiClient(
            client,
            NoAuth(),
            base_url=f"http://127.0.0.1:{port}",
            clock=clock,
            on_request=lambda *told: calls.append(told[2]),
        )
        with pytest.raises(Unreachable, match="Connection refused") as trouble:
            await api.post(PATH, {})
    assert not isinstance(trouble.value, AmbiguousRequest)
    assert len(calls) == 10
    assert len(clock.slept) == 9  # not after the last


async def test_a_server_that_hangs_is_given_up_in_time() -> None:
    async with calling(Hang(), timeout_s=patience(0.1)) as found:
        with pytest.raises(AmbiguousRequest, match="no complete answer in time"):
            await found.api.patch(PATH, {})


async def test_retry_after_is_a_floor_with_jitter_on_top() -> None:
    async with calling(in_turn(answer({}, 503, **LATER), answer({}))) as found:
        await found.api.get(PATH)
    assert 7.0 < found.slept_s < 8.0


async def test_a_date_in_retry_after_is_a_time_to_wait() -> None:
    dates = {"Retry-After": "Wed, 21 Oct 2026 07:28:10 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    async with calling(in_turn(answer({}, 503, **dates), answer({}))) as found:
        await found.api.get(PATH)
    assert 10.0 < found.slept_s < 11.5


async def test_a_retry_after_past_the_deadline_is_not_waited_for() -> None:
    too_many = error(429, "too.many.requests.retry.after", "Retry the request in [300] seconds")
    script = in_turn(Reply(429, {"Retry-After": "300"}, too_many.body))
    async with calling(script, deadline_s=60.0) as found:
        with pytest.raises(ApiError, match=r"429 too.many.requests.retry.after") as refused:
            await found.api.get(PATH)
        with pytest.raises(Unreachable, match="no more requests"):
            await found.api.get(PATH)
    assert (found.clock.slept, refused.value.exit_code) == ([], 4)
    assert len(found.receiver.requests) == 1


async def test_waits_grow_have_jitter_and_end_with_the_last_failure() -> None:
    async with calling(error(503, "service.unavailable", "down for a while")) as found:
        with pytest.raises(ApiError, match=r"503 service.unavailable: down for a while"):
            await found.api.get(PATH)
    assert len(found.clock.slept) == len(found.receiver.requests) - 1
    assert len(set(found.clock.slept)) == len(found.clock.slept)
    assert found.slept_s <= 120


async def test_pace_keeps_to_the_requests_of_a_minute_for_all_that_wait() -> None:
    clock = FakeClock()
    pace = ApiPace(60, clock=clock)
    sent: list[float] = []

    async def call() -> None:
        assert await pace.wait_for_turn(within_s=1000)
        sent.append(clock.now)

    await gather(*(call() for _ in range(150)), limit=20)
    assert max(sum(1 for at in sent if start <= at < start + 60) for start in sent) <= 60
    assert 150 < sent[-1] - sent[0] < 200


async def test_what_the_api_says_is_left_is_kept_to() -> None:
    left = {"inin-ratelimit-count": "300", "inin-ratelimit-allowed": "300", "inin-ratelimit-reset": "42"}
    async with calling(in_turn(Reply(200, left), answer({}))) as found:
        await found.api.get(PATH)
        assert found.clock.slept == []
        await found.api.get(PATH)
    assert found.slept_s >= 42


async def test_little_that_is_left_is_spread() -> None:
    low = {"inin-ratelimit-count": "291", "inin-ratelimit-allowed": "300", "inin-ratelimit-reset": "20"}
    async with calling(in_turn(Reply(200, low), answer({}))) as found:
        for _ in range(4):
            await found.api.get(PATH)
    assert found.clock.slept == pytest.approx([2.0, 2.0], abs=0.01)


async def test_an_error_says_what_where_and_by_which_id_it_is_found() -> None:
    refused = error(
        400,
        "bad.request",
        "invalid target",
        details=[{"errorCode": "invalid.value", "fieldName": "endpointUrl"}],
        errors=[{"code": "invalid.value", "message": "must be https", "errors": [{"message": "deeper"}]}],
    )
    async with calling(refused) as found:
        with pytest.raises(ApiError) as caught:
            await found.api.post(PATH, {"endpointUrl": "http://x"})
    assert str(caught.value) == (
        f"POST {PATH}: 400 bad.request: invalid target"
        " (endpointUrl: invalid.value; invalid.value: must be https; deeper) (correlation id ctx-1)"
    )
    assert len(caught.value.errors) == 3
    assert caught.value.exit_code == 2


async def test_what_an_api_says_three_times_is_shown_once() -> None:
    refused = error(
        400,
        "bad.request",
        "url: https expected (and 1 more)",
        details=[{"errorCode": "bad", "fieldName": "url"}, {"errorCode": "missing", "fieldName": "name"}],
        errors=[{"code": "bad", "message": "url: https expected"}, {"message": "name: required"}],
    )
    async with calling(refused) as found:
        with pytest.raises(
            ApiError, match=r"400 bad.request: url: https expected \(and 1 more\) \(name: requi"
        ):
            await found.api.put(PATH, {})


async def test_the_correlation_id_of_the_header_serves_as_well_and_every_attempt_is_told() -> None:
    script = in_turn(
        Reply(503, {"ININ-Correlation-Id": "abc-1"}, b"upstream <b>down</b>"),
        Reply(404, {"ININ-Correlation-Id": "abc-2"}, b"not json"),
    )
    async with calling(script) as found:
        with pytest.raises(ApiError) as caught:
            await found.api.get(f"{PATH}/t-1?cursor=SECRET")
    assert str(caught.value) == f"GET {PATH}/t-1: 404 (correlation id abc-2)"
    assert [(c.method, c.path, c.status, c.correlation_id) for c in found.calls] == [
        ("GET", f"{PATH}/t-1", 503, "abc-1"),
        ("GET", f"{PATH}/t-1", 404, "abc-2"),
    ]
    assert all(0 < call.seconds < patience(5) for call in found.calls)


async def test_no_error_quotes_a_secret_of_the_request() -> None:
    body = {
        "name": "crm",
        "authConfig": {"username": "the-user", "password": 'p"ss/word'},
        "headers": {"X-Api-Key": "key-123456"},
        "client": {"clientSecret": "s3cret-value"},
    }

    def script(request: Request) -> Reply:
        said = f"cannot take {request.body.decode()}\r\n\x1b[31m Bearer abcdefgh12345678"
        return error(400, "bad.request", said, errors=[{"message": said}])

    async with calling(script) as found:
        with pytest.raises(ApiError) as caught:
            await found.api.post(PATH, body)
    for shown in (str(caught.value), repr(caught.value), str(caught.value.errors)):
        for secret in ("the-user", "ss/word", "key-123456", "s3cret-value", "abcdefgh12345678", "\x1b", "\n"):
            assert secret not in shown
        assert "crm" in shown


async def test_a_long_error_is_cut() -> None:
    nested = [{"message": "n" * 900}] * 500
    huge = error(400, "x" * 5000, "m" * 200_000, errors=nested, contextId="c" * 5000)
    async with calling(huge) as found:
        with pytest.raises(ApiError) as caught:
            await found.api.get(PATH)
    assert len(str(caught.value)) < 1500
    assert caught.value.message.startswith("mmm")
    assert len(caught.value.errors) == 20


@each(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"errors": 5, "details": {}, "limit": 3}',
        b'{"code": 5, "message": ["a"], "contextId": {"a": 1}, "errors": [1, null, {"message": 2}]}',
    ],
)
async def test_an_error_body_of_any_shape_is_an_error_all_the_same(body: bytes) -> None:
    async with calling(Reply(400, body=body)) as found:
        with pytest.raises(ApiError) as caught:
            await found.api.get(PATH)
    assert str(caught.value) == f"GET {PATH}: 400"


@each(
    ("reply", "kind"),
    [
        (error(409, "version.conflict", "v"), "is_version_conflict"),
        (error(400, "bad.request", "Version 2 does not match the current version 3"), "is_version_conflict"),
        (error(404, "not.found", "gone"), "is_not_found"),
        (error(410, "gone", "gone"), "is_not_found"),
        (
            error(400, "x", "25 already", limit={"key": "subscribers", "namespace": "e", "value": 25}),
            "is_limit",
        ),
        (error(409, "limit.exceeded", "too many"), "is_limit"),
        (error(400, "bad.request", "something else"), ""),
        (error(403, "not.authorized", "missing permission"), ""),
    ],
)
async def test_kinds_of_errors_are_told_apart(reply: Reply, kind: str) -> None:
    async with calling(reply) as found:
        with pytest.raises(ApiError) as caught:
            await found.api.put(PATH, {})
    kinds = ("is_version_conflict", "is_not_found", "is_limit")
    assert [one for one in kinds if getattr(caught.value, one)] == ([kind] if kind else [])
    if caught.value.limit:
        assert caught.value.limit["value"] == 25
        assert "(the limit is 25)" in str(caught.value)


async def test_what_is_gone_already_is_deleted() -> None:
    async with calling(
        in_turn(error(404, "not.found", "-"), error(410, "gone", "-"), error(403, "no", "-"))
    ) as found:
        await found.api.delete(PATH)
        await found.api.delete(PATH)
        with pytest.raises(ApiError):
            await found.api.delete(PATH)


async def test_a_new_thing_may_take_its_time_to_be_seen() -> None:
    """Seed 000 took the first 404 for the end and left the target an orphan."""
    missing = error(404, "not.found", "-")
    async with calling(in_turn(missing, missing, missing, answer({"id": 1}))) as found:
        assert await found.api.get_when_visible(PATH, deadline_s=30) == {"id": 1}
        found.receiver.script = in_turn(missing)
        start = found.clock.now
        with pytest.raises(ApiError) as caught:
            await found.api.get_when_visible(PATH, deadline_s=30)
        assert caught.value.is_not_found
        assert found.clock.now - start == pytest.approx(30, abs=0.1)


async def test_a_redirect_is_not_followed_and_takes_no_token_along() -> None:
    async with calling(Reply(302, {"Location": "http://127.0.0.1:1/"})) as found:
        with pytest.raises(ApiError, match="redirects are not followed"):
            await found.api.get(PATH)
    assert len(found.receiver.requests) == 1


async def test_a_huge_answer_is_an_error_after_few_tries() -> None:
    async with calling(Raw(b"HTTP/1.1 200 OK\r\n\r\n[", endless=b"1," * 50_000)) as found:
        with pytest.raises(Unreachable, match="too long"):
            await found.api.get(PATH)
    assert len(found.calls) == 3


@each(
    "path", ["api", "", "/", "//evil.example/x", "/a//b", "/a/../b", "/a/..", "/a\\b", "/a b", "/ä", "/a\nb"]
)
async def test_a_path_cannot_lead_elsewhere(path: str) -> None:
    async with calling(answer({})) as found:
        with pytest.raises(UserError, match="is not a path"):
            await found.api.get(path)
    assert found.receiver.requests == []


@each("value", [float("nan"), object(), {1, 2}, b"secret-bytes"])
async def test_a_value_that_json_does_not_have_is_told_and_nothing_is_sent(value: Any) -> None:
    """Seed 000: TypeError from within the client, no request and no audit line."""
    async with calling(answer({})) as found:
        with pytest.raises(UserError, match="JSON does not have") as told:
            await found.api.post(PATH, {"a": value})
    assert "secret" not in str(told.value)
    assert found.receiver.requests == []


@each("base", ["api.example.com", "ftp://x", "https://u:p@x", "https://x?y=1", ""])
def test_an_address_that_is_none_is_told_at_once(base: str) -> None:
    with pytest.raises(UserError, match="address"):
        ApiClient(Client(), NoAuth(), base_url=base, clock=FakeClock())


async def test_gathered_calls_keep_their_order_and_their_limit() -> None:
    active = most = 0

    async def call(number: int) -> int:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0)
        active -= 1
        return number

    assert await gather(*map(call, range(30)), limit=4) == list(range(30))
    assert most == 4


async def test_the_first_gathered_failure_is_raised_as_it_is_and_ends_the_others() -> None:
    started: list[int] = []

    async def call(number: int) -> None:
        started.append(number)
        if number == 1:
            raise UserError("this one")
        await asyncio.Event().wait()

    with pytest.raises(UserError, match="this one"):
        await gather(*map(call, range(20)), limit=2)
    assert started == [0, 1]
