"""Tokens: refreshed once for all, never the end of an event, never told to anybody."""

import asyncio
import json
from collections.abc import Callable

import pytest

from ingestd.core.errors import Unreachable
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.transport.auth import LoginRefused
from tests.each import each
from tests.integration.delivery.support import TOKEN_PATH, Rig, batches, grant, key_of, rig, until
from tests.machine import patience
from tests.receiver import Action, Reply, Request

pytestmark = pytest.mark.anyio


def api(accepts: Callable[[str], bool], *, log: list[str] | None = None) -> Callable[[Request], Action]:
    """Gives out token-1, token-2, …; answers 401 to every other one."""
    given = iter(range(1, 10_000))

    def script(request: Request) -> Action:
        if request.path == TOKEN_PATH:
            return grant(f"CANARY-token-{next(given)}")
        token = request.headers["authorization"].removeprefix("Bearer CANARY-token-")
        if log is not None:
            log.append(token)
        return Reply() if accepts(token) else Reply(401, body=request.headers["authorization"].encode())

    return script


def token_requests(r: Rig) -> int:
    return sum(request.path == TOKEN_PATH for request in r.receiver.requests)


async def test_a_token_that_ran_out_is_refreshed_once_for_all_requests_that_were_out() -> None:
    arrived = asyncio.Event()
    expired = 0
    answer = api(lambda token: token == "2")

    async def script(request: Request) -> Action:
        nonlocal expired
        if request.headers.get("authorization", "").endswith("-1"):
            expired += 1
            if expired == 5:
                arrived.set()
            await arrived.wait()
        return answer(request)

    async with rig(script, login=True, max_in_flight=5, max_queued=5) as r:
        given = batches(5, size=2)
        await r.deliver(given)
        assert token_requests(r) == 2
        assert len(r.posts) == 10
        assert {key: len(posts) for key, posts in r.attempts_by_key.items()} == {b.id: 2 for b in given}
        r.assert_resends_identical()
        tokens = [[post.headers["authorization"][-1] for post in p] for p in r.attempts_by_key.values()]
        assert tokens == [["1", "2"]] * 5
        assert r.book.states == []


async def test_a_late_401_for_the_old_token_does_not_cost_the_new_one() -> None:
    log: list[str] = []
    hold = asyncio.Event()
    answer = api(lambda token: token == "2", log=log)

    async def script(request: Request) -> Action:
        if len(r.posts) == 1:
            await hold.wait()
        return answer(request)

    async with rig(script, login=True, max_in_flight=2) as r, r.running():
        feed = asyncio.create_task(r.feed(batches(3)))
        await until(lambda: log.count("2") == 2)  # the others got through with the new token
        hold.set()
        await feed
    assert token_requests(r) == 2
    assert r.book.delivered == [0, 1, 2]


async def test_fresh_tokens_that_are_refused_too_pause_the_lane_and_lose_nothing() -> None:
    async with rig(api(lambda token: False), login=True, startup_timeout_s=1.5, max_queued=9) as r:
        given = batches(4)
        with pytest.raises(Unreachable, match="the API refused our token, also after a new login"):
            await r.deliver(given)
        assert r.book.states == [BreakerState.PAUSED]
        assert r.book.ends == {}
        r.book.assert_balanced(given, r.lane.leftovers())
        assert len(r.posts) <= 2 * 4 + 3, "paused, it probes now and then"
        assert token_requests(r) <= len(r.posts)


async def test_the_lane_goes_on_when_tokens_are_accepted_again() -> None:
    async with rig(api(lambda token: int(token) >= 3), login=True) as r:
        await r.deliver(batches(3))
        assert r.book.states == [BreakerState.PAUSED, BreakerState.CLOSED]
        assert r.book.delivered == [0, 1, 2]
        r.assert_resends_identical()


async def test_a_401_between_other_troubles_is_a_first_one_again() -> None:
    statuses = iter([401, 500, 401, 500, 401, 200])

    def script(request: Request) -> Action:
        return grant("x") if request.path == TOKEN_PATH else Reply(next(statuses))

    async with rig(script, login=True) as r:
        await r.deliver(batches(1))
        assert r.book.states == []
        assert len({key_of(post) for post in r.posts}) == 1


async def test_attempts_with_an_old_token_do_not_count_against_an_event() -> None:
    statuses = iter([401, 500, 401, 500, 401, 200])

    def script(request: Request) -> Action:
        return grant("x") if request.path == TOKEN_PATH else Reply(next(statuses))

    async with rig(script, login=True, max_attempts=3) as r:
        await r.deliver(batches(1))
        assert r.book.delivered == [0]


async def test_a_refused_login_ends_the_run_at_once_with_everything_left_over() -> None:
    refused = Reply(401, body=b'{"error":"invalid_client","error_description":"CANARY-secret"}')
    async with rig(refused, login=True, startup_timeout_s=60) as r:
        given = batches(2)
        async with asyncio.timeout(patience(10.0)):
            with pytest.raises(LoginRefused) as caught:
                await r.deliver(given)
        assert "CANARY" not in str(caught.value)
        assert r.posts == []
        r.book.assert_balanced(given, r.lane.leftovers())


async def test_a_service_that_is_not_to_stop_waits_for_a_login_that_works_again() -> None:
    refused = Reply(401, body=b'{"error":"invalid_client"}')
    works = False

    def script(request: Request) -> Action:
        if request.path == TOKEN_PATH:
            return grant("x") if works else refused
        return Reply()

    async with rig(script, login=True, stop_on_outage=False) as r, r.running():
        feed = asyncio.create_task(r.feed(batches(1)))
        await until(lambda: r.book.states == [BreakerState.PAUSED])
        works = True
        r.lane._transport._auth._refused_until = 0.0  # type: ignore[attr-defined]  # not to wait 5 s
        await feed
    assert r.book.states == [BreakerState.PAUSED, BreakerState.CLOSED]
    assert r.book.delivered == [0]


async def test_no_secret_is_in_what_is_noted_of_attempts_and_ends() -> None:
    """The API echoes the request's headers in every kind of answer."""
    statuses = iter([401, 500, 429, 207, 403, 400, 418])

    def script(request: Request) -> Action:
        if request.path == TOKEN_PATH:
            return grant("CANARY-token")
        echo = f"Authorization: {request.headers['authorization']}"
        errors = [{"index": 0, "message": echo, "retryable": True}, {"message": echo}]
        body = json.dumps({"errors": errors}).encode()
        return Reply(next(statuses), {"Location": f"/?t={echo}"}, body)

    async with rig(script, login=True) as r:
        await r.deliver(batches(1, size=2))
        noted = [repr((verdict.detail, verdict.items)) for _, _, verdict in r.book.attempts]
        noted += [end.detail for end in r.book.ends.values()] + [why for _, why in r.book.changes]
        assert len(noted) >= 9
        assert [text for text in noted if "CANARY" in text] == []


TOKEN_WORDS = [
    (403, b'{"message":"The access token expired"}', {}),
    (403, b"", {"WWW-Authenticate": 'Bearer realm="x", error="invalid_token"'}),
    (403, b'{"Message":"The security token included in the request is expired"}', {}),
    (403, b'{"error":"expired_token"}', {}),
    (400, b'{"error":"invalid_token"}', {}),
    (400, b'{"__type":"com.amazon.coral#ExpiredTokenException"}', {}),
    (400, b'{"errorCode":"TOKEN_EXPIRED"}', {}),
    (400, b"JWT is expired", {}),
]


@each(("status", "body", "headers"), TOKEN_WORDS, ids=range(len(TOKEN_WORDS)))
async def test_whatever_the_status_a_token_that_is_refused_is_renewed_once_for_all(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    given = iter(range(1, 100))

    def script(request: Request) -> Action:
        if request.path == TOKEN_PATH:
            return grant(f"t{next(given)}")
        old = request.headers["authorization"] == "Bearer t1"
        return Reply(status, headers, body) if old else Reply()

    async with rig(script, login=True, max_in_flight=4, max_queued=8) as r:
        await r.deliver(batches(8, size=2))
        assert r.book.delivered == list(range(16))
        assert token_requests(r) == 2
        assert (r.book.buried, r.book.states) == ({}, [])
        r.assert_resends_identical()


@each(
    ("answer", "tokens"),
    [
        (Reply(403, body=b'{"message":"missing permission conversations:add"}'), 1),
        (Reply(403, {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}, b"the token has expired"), 1),
        (Reply(403, body=b'{"message":"The access token expired"}'), 2),
    ],
    ids=["permission", "scope", "the API refused our token, also after a new login"],
)
async def test_a_403_that_stays_does_not_ask_for_token_after_token(answer: Reply, tokens: int) -> None:
    def script(request: Request) -> Action:
        return grant("x") if request.path == TOKEN_PATH else answer

    async with rig(script, login=True, stop_on_outage=False) as r, r.running():
        r.lane.add(batches(3))
        await until(lambda: len(r.posts) >= 4 and r.lane.circuit.state is BreakerState.PAUSED)
        assert token_requests(r) == tokens
        assert ("the API refused our token, also after a new login" in r.lane.circuit.why) is (tokens == 2)
        assert r.book.buried == {}
        r.lane.abandon()


async def test_a_400_that_stays_is_about_the_events_after_one_new_token() -> None:
    def script(request: Request) -> Action:
        return grant("x") if request.path == TOKEN_PATH else Reply(400, body=b'{"error":"invalid_token"}')

    async with rig(script, login=True) as r:
        await r.deliver(batches(3))
        assert sorted(r.book.buried) == [0, 1, 2]
        assert token_requests(r) == 2


async def test_a_401_where_no_credentials_are_sent_says_so() -> None:
    async with rig(Reply(401, body=b"who?"), stop_on_outage=False) as r, r.running():
        r.lane.add(batches(1))
        await until(lambda: r.lane.circuit.state is BreakerState.PAUSED)
        assert r.lane.circuit.why.startswith("no credentials are sent, and the API wants some: set auth")
        assert "fresh token" not in r.lane.circuit.why
        r.lane.abandon()


async def test_what_waits_for_a_token_when_its_sink_is_parked_is_not_sent_until_it_is_resumed() -> None:
    asked, given = asyncio.Event(), asyncio.Event()

    async def script(request: Request) -> Action:
        if request.path == TOKEN_PATH:
            asked.set()
            await given.wait()
            return grant("CANARY-token-1")
        return Reply()

    async with rig(script, login=True) as r, r.running():
        (batch,) = batches(1)
        feed = asyncio.create_task(r.feed([batch]))
        await asked.wait()
        r.lane.hold(True)
        given.set()
        await until(lambda: r.lane.waiting == 1)
        assert r.posts == []
        r.lane.hold(False)
        await feed
    assert r.book.delivered == [0]
    assert [key_of(post) for post in r.posts] == [batch.id]
