"""The token source against a real login host on loopback, with time in the test's hands."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingestd.core.errors import Unreachable
from ingestd.transport.auth import LoginRefused
from ingestd.transport.client import Client
from ingestd.transport.oauth import Token, TokenSource, TokenUnavailable
from tests.each import each
from tests.integration.transport.support import FakeClock
from tests.machine import patience
from tests.receiver import Action, Cut, Hang, Raw, Receiver, Reply, Request, Script, in_turn

pytestmark = pytest.mark.anyio

CLIENT_ID = "0d9a7c3e-1111-2222-3333-444455556666"
SECRET = "the+secret/of&ours"


def grant(value: object = "token-1", expires_in: object = 3600, **more: Any) -> Reply:
    return Reply(
        body=json.dumps(
            {"access_token": value, "token_type": "bearer", "expires_in": expires_in} | more
        ).encode()
    )


def refusal(status: int, **body: Any) -> Reply:
    return Reply(status, body=json.dumps(body).encode())


THROTTLED = refusal(400, error="invalid_request", description="invalid_request (Rate limit exceeded; 300)")


def numbered(expires_in: object = 3600) -> Script:
    """A new token on every request: token-1, token-2, ..."""
    count = iter(range(1, 10_000))
    return lambda _: grant(f"token-{next(count)}", expires_in)


@asynccontextmanager
async def login(
    script: Script | Action, **options: Any
) -> AsyncIterator[tuple[Receiver, TokenSource, FakeClock]]:
    before = asyncio.all_tasks()
    clock = FakeClock()
    async with (
        Receiver(script if callable(script) else in_turn(script)) as receiver,
        Client(timeout_s=patience(5)) as client,
    ):
        tokens = TokenSource(
            client,
            token_url=options.pop("token_url", f"{receiver.url}/oauth/token"),
            client_id=CLIENT_ID,
            client_secret=SECRET,
            clock=clock,
            **options,
        )
        yield receiver, tokens, clock
        await tokens.aclose()
    assert asyncio.all_tasks() == before


def assert_says_nothing_secret(error: Unreachable) -> None:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 300
    for secret in (SECRET, CLIENT_ID, "token-1", base64.b64encode(SECRET.encode()).decode()):
        assert secret not in text
    assert error.exit_code == 4


# the request and the token


async def test_the_request_is_a_client_credentials_grant() -> None:
    async with login(grant()) as (receiver, tokens, _):
        assert await tokens.get() == Token("token-1", 1)
        assert await tokens.get() == Token("token-1", 1)
    (request,) = receiver.requests
    assert (request.method, request.path, request.body) == (
        "POST",
        "/oauth/token",
        b"grant_type=client_credentials",
    )
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    scheme, _, pair = request.headers["authorization"].partition(" ")
    # RFC 6749 2.3.1: form-encoded, then base64
    assert (scheme, base64.b64decode(pair).decode()) == ("Basic", f"{CLIENT_ID}:the%2Bsecret%2Fof%26ours")


async def test_a_token_does_not_show_itself() -> None:
    assert "secret" not in repr(Token("secret", 1))


async def test_many_callers_make_one_request() -> None:
    async def slow(_: Request) -> Reply:
        await asyncio.sleep(0.02)
        return grant()

    async with login(slow) as (receiver, tokens, _):
        got = await asyncio.gather(*(tokens.get() for _ in range(50)))
    assert {token.value for token in got} == {"token-1"}
    assert len(receiver.requests) == 1


async def test_the_request_survives_the_caller_that_started_it() -> None:
    gate = asyncio.Event()

    async def gated(_: Request) -> Reply:
        await gate.wait()
        return grant()

    async with login(gated) as (receiver, tokens, _):
        leader = asyncio.create_task(tokens.get())
        await receiver.until(lambda r: bool(r.requests))
        follower = asyncio.create_task(tokens.get())
        await asyncio.sleep(0)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        gate.set()
        assert (await follower).value == "token-1"
    assert len(receiver.requests) == 1


async def test_closing_ends_what_waits() -> None:
    async with login(Hang()) as (receiver, tokens, _):
        waiting = asyncio.create_task(tokens.get())
        await receiver.until(lambda r: bool(r.requests))
        await tokens.aclose()
        with pytest.raises(TokenUnavailable, match="closed"):
            await waiting
        with pytest.raises(TokenUnavailable, match="closed"):
            await tokens.get()
        await receiver.until(lambda r: r.open == 0)


async def test_it_is_a_way_to_show_whom_a_request_is_from() -> None:
    async with login(numbered()) as (_, tokens, _):
        assert await tokens.headers("", b"", {}) == ({"Authorization": "Bearer token-1"}, 1)
        tokens.drop(1)
        assert await tokens.headers("", b"", {}) == ({"Authorization": "Bearer token-2"}, 2)
        assert tokens.mask(b"you sent token-1, later token-2") == b"you sent ***, later ***"


async def test_a_scope_is_asked_for_where_one_is_set() -> None:
    async with login(grant(), scope="events:write a&b") as (receiver, tokens, _):
        await tokens.get()
    assert receiver.requests[0].body == b"grant_type=client_credentials&scope=events%3Awrite+a%26b"


# lifetime


@each(
    ("expires_in", "lifetime_s"),
    [
        (3600, 3600),
        ("1200", 1200),
        (86399.0, 86399),
        (1, 1),
        (0, 300),
        (-1, 300),
        ("", 300),
        ("-5", 300),
        ("1_000", 300),
        ("\uff11\uff12", 300),  # full-width 12
        ("9" * 30, 300),
        (None, 300),
        (True, 300),
        ([], 300),
        ({"a": 1}, 300),
        (0.5, 300),
        (float("nan"), 300),
        (float("-inf"), 300),
        (float("inf"), 48 * 3600),
        (1e12, 48 * 3600),
        (10**400, 48 * 3600),
    ],
)
async def test_lifetimes(expires_in: object, lifetime_s: float) -> None:
    # the second request fails for good: what counts is how long the first token is used
    async with login(in_turn(grant("token-1", expires_in), refusal(401))) as (receiver, tokens, clock):
        await tokens.get()
        clock.now += lifetime_s - 0.001
        assert (await tokens.get()).value == "token-1"
        clock.now += 0.002
        with pytest.raises(LoginRefused):
            await tokens.get()
    assert len(receiver.requests) == 2


async def test_an_absent_lifetime() -> None:
    async with login(in_turn(Reply(body=b'{"access_token":"token-1"}'), grant("token-2"))) as (
        _,
        tokens,
        clock,
    ):
        await tokens.get()
        clock.now += 301
        assert (await tokens.get()).value == "token-2"


@each(("expires_in", "ahead_s"), [(3600, 60), (100, 50)])
async def test_renewed_ahead_of_its_end_in_the_background(expires_in: int, ahead_s: float) -> None:
    renewed = asyncio.Event()
    async with login(numbered(expires_in), on_refresh=lambda *_: renewed.set()) as (receiver, tokens, clock):
        await tokens.get()
        renewed.clear()
        clock.now += expires_in - ahead_s - 0.01
        assert (await tokens.get()).value == "token-1"
        assert len(receiver.requests) == 1
        clock.now += 0.02
        assert (await tokens.get()).value == "token-1"  # nobody waits for the new one
        await renewed.wait()
        assert await tokens.get() == Token("token-2", 2)
    assert len(receiver.requests) == 2


@each("trouble", [Reply(503), refusal(401, error="invalid_client")])
async def test_the_old_token_stays_in_use_when_renewing_fails(trouble: Reply) -> None:
    failed = asyncio.Event()
    async with login(
        in_turn(grant(expires_in=1000), trouble),
        timeout_s=5,
        on_refresh=lambda ok, _: None if ok else failed.set(),
    ) as (_, tokens, clock):
        await tokens.get()
        clock.now += 941
        assert (await tokens.get()).value == "token-1"
        await failed.wait()
        assert (await tokens.get()).value == "token-1"
        clock.now += 100
        with pytest.raises(Unreachable):
            await tokens.get()


async def test_wall_clock_jumps_do_nothing() -> None:
    async with login(numbered()) as (receiver, tokens, clock):
        for jump in (10 * 365 * 86400, -30 * 365 * 86400, 3600):
            clock.wall_now += jump
            assert (await tokens.get()).generation == 1
    assert len(receiver.requests) == 1


async def test_a_host_that_grants_seconds_is_asked_once_a_second() -> None:
    async with login(numbered(expires_in=1)) as (receiver, tokens, clock):
        start = clock.now
        for _ in range(20):
            generation = (await tokens.get()).generation
            tokens.drop(generation)
        assert clock.now - start == pytest.approx(17)  # the first three are free
    assert len(receiver.requests) == 20


# drop


async def test_drop_forgets_only_that_generation() -> None:
    async with login(numbered()) as (receiver, tokens, _):
        first = await tokens.get()
        tokens.drop(first.generation)
        second = await tokens.get()
        assert (second.value, second.generation) == ("token-2", 2)
        tokens.drop(first.generation)  # a late 401 of the old one
        assert await tokens.get() == second
    assert len(receiver.requests) == 2


# what goes wrong for a while


@each(
    "trouble",
    [
        Reply(429),
        Reply(500),
        Reply(503),
        Reply(404, body=b"<html>not here"),
        Reply(302, {"Location": "https://evil.test/"}),
        THROTTLED,
        Cut(),
        Cut("rst"),
        Cut("mid_body", grant()),
        Raw(b"garbage\r\n\r\n"),
        Reply(body=b"not json"),
        Reply(body=b"[]"),
        Reply(body=b'{"access_token": "token-1"}\xff'),
        Reply(body=b"[" * 60_000),
        Reply(body=b'{"access_token":"token-1","expires_in":' + b"9" * 5000 + b"}"),
        grant(value=""),
        grant(value=None),
        grant(value=7),
        grant(value="a\r\nX-Injected: 1"),
        grant(value="a b"),
        grant(value="tökén"),
        grant(value="x" * 16_385),
        grant(padding="x" * 70_000),
        Reply(204, {"Content-Length": "0"}, b""),
    ],
    ids=lambda value: repr(value)[:70],
)
async def test_trouble_is_retried(trouble: Action) -> None:
    seen: list[bool] = []
    async with login(in_turn(trouble, trouble, grant()), on_refresh=lambda ok, _: seen.append(ok)) as (
        _,
        tokens,
        clock,
    ):
        assert await tokens.get() == Token("token-1", 1)
        assert clock.now - 1000 <= 0.5 + 1.0 + 2.0  # full jitter
    assert seen == [False, False, True]


async def test_the_longest_token_and_an_odd_charset_pass() -> None:
    async with login(grant(value="~!" * 8192)) as (_, tokens, _clock):
        assert (await tokens.get()).value == "~!" * 8192


@each(
    ("headers", "expected_s"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "86400"}, 30.0),
        ({"Retry-After": "Fri, 15 Jan 2027 08:00:09 GMT", "Date": "Fri, 15 Jan 2027 08:00:00 GMT"}, 9.0),
    ],
)
async def test_retry_after_is_a_floor(headers: dict[str, str], expected_s: float) -> None:
    async with login(in_turn(Reply(429, headers), grant())) as (_, tokens, clock):
        await tokens.get()
        assert expected_s <= sum(clock.slept) <= 1.1 * expected_s + 0.05


@each(
    ("trouble", "words"),
    [
        (Reply(503), "it answered 503"),
        (Cut(), "connection closed"),
        (grant(value=""), "without a token"),
        (THROTTLED, "it answered 400"),
    ],
)
async def test_patience_ends(trouble: Action, words: str) -> None:
    async with login(trouble, timeout_s=120) as (receiver, tokens, clock):
        with pytest.raises(TokenUnavailable, match=words) as error:
            await tokens.get()
        assert_says_nothing_secret(error.value)
        assert f"127.0.0.1:{receiver.port}" in str(error.value)
        assert 60 < clock.now - 1000 <= 120
        assert max(clock.slept) <= 30
        assert 5 < len(receiver.requests) < 60


async def test_asking_again_does_not_shorten_the_wait() -> None:
    async with login(Reply(503, {"Retry-After": "20"}), timeout_s=10) as (receiver, tokens, _):
        for _ in range(10):
            with pytest.raises(TokenUnavailable, match="503"):
                await tokens.get()
    assert len(receiver.requests) == 1


async def test_nobody_listens() -> None:
    async with Receiver() as gone:
        pass
    url = gone.url.replace("//", "//user:hunter2@") + "/oauth/token?x=1"
    async with login(grant(), token_url=url, timeout_s=5) as (_, tokens, _clock):
        with pytest.raises(TokenUnavailable, match="Connection refused") as error:
            await tokens.get()
    assert "hunter2" not in str(error.value)
    assert f"127.0.0.1:{gone.port}" in str(error.value)


# what is wrong for good


@each(
    ("reply", "code"),
    [
        (
            refusal(400, error="invalid_client", error_description=f"no such secret: {SECRET}"),
            "400 invalid_client",
        ),
        (refusal(401, error="invalid_grant"), "401 invalid_grant"),
        (Reply(403, body=b"<html>forbidden"), "403"),
        (refusal(401, error=f"{SECRET}\n"), "401"),
        (refusal(400, error=["x"]), "400"),
        (Cut("mid_body", Reply(401, body=b'{"error": "invalid_client"}')), "401"),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_a_refused_login_is_said_at_once(reply: Action, code: str) -> None:
    async with login(reply) as (receiver, tokens, clock):
        with pytest.raises(LoginRefused) as error:
            await tokens.get()
        assert_says_nothing_secret(error.value)
        assert str(error.value) == f"127.0.0.1:{receiver.port} refuses the login of client id 0d9a…: {code}"
        assert clock.slept == []


async def test_a_refusal_is_remembered_for_some_seconds() -> None:
    async with login(in_turn(refusal(401, error="invalid_client"), grant())) as (receiver, tokens, clock):
        for _ in range(20):
            with pytest.raises(LoginRefused, match="invalid_client"):
                await tokens.get()
        assert len(receiver.requests) == 1
        clock.now += 6
        assert (await tokens.get()).value == "token-1"  # somebody put it right


async def test_each_caller_gets_an_error_of_its_own() -> None:
    async with login(refusal(401)) as (receiver, tokens, _):
        errors = await asyncio.gather(*(tokens.get() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(error, LoginRefused) for error in errors)
    assert len({id(error) for error in errors}) == 5
    assert len(receiver.requests) == 1
