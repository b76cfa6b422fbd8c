"""Targets against the sandbox, through the real client; scripted receivers where a fault must be exact.

Faults are numbered as in the list of what the seed on targets gets wrong.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from ingestd.control.engine.resource import RemoteResource
from ingestd.control.target.payload import MAX_PAYLOAD_BYTES, build_body, estimate_payload_bytes
from ingestd.control.target.target import Target
from ingestd.control.target.verification import PATH
from ingestd.core.errors import UserError
from ingestd.sandbox.faults import Match, Rule, ScriptedAnswer, parse_fault
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.transport.api_client import AmbiguousRequest, ApiError
from tests.each import each
from tests.integration.control.target_support import (
    BASIC,
    PASSWORD,
    Session,
    open_api,
    open_sandbox,
    parse,
    table,
)
from tests.receiver import Cut, Receiver, Reply, Request

pytestmark = pytest.mark.anyio
TARGET = Target()
ONE = PATH + "/{id}"


def answer(code: int, /, **content: Any) -> Reply:
    return Reply(code, body=json.dumps(content).encode())


def order(session: Session, *rules: Rule) -> None:
    assert session.sandbox
    session.sandbox.set_faults([], rules)


async def create(session: Session, **changes: Any) -> RemoteResource:
    """As apply does it: first the id, then the rest."""
    wanted, context = parse(**changes), session.context()
    found = await TARGET.create(context, wanted, {})
    return await TARGET.settle(context, found, wanted)


def step(session: Session, entry: str) -> Mapping[str, Any]:
    [found] = [step.fields for step in session.notes if step.entry == entry]
    return found


async def test_a_target_is_made_verified_and_read_back_as_it_was_wanted() -> None:
    """Faults 8, 16, 17: the seed sends nothing, makes a second one, and sees drift for ever."""
    async with open_sandbox() as session:
        made = await create(session, headers={"X-Source-System": "GenesysCloud", "X-Api-Key": "env:API_KEY"})
        assert made.settled
        assert made.state == "VERIFIED"
        assert session.entries() == ["TARGET_CREATED", "TARGET_VERIFIED"]
        [found] = await TARGET.read(session.context())
        wanted = parse(headers={"X-Source-System": "GenesysCloud", "X-Api-Key": "env:API_KEY"})
        assert found == made
        assert (found.key, found.fields, found.settled) == (wanted.key, wanted.fields, True)
        assert session.sandbox
        assert session.sandbox.control.targets[made.id].secrets == {
            "username": "genesys-relay",
            "password": PASSWORD,
        }
        shown = json.dumps([made.fields, [dict(step.fields) for step in session.notes]])
        assert PASSWORD not in shown
        assert "k-1234567890" not in shown


@each(
    ("auth", "sent"),
    [
        ({"type": "NONE"}, {}),
        (BASIC, {"username": "genesys-relay", "password": PASSWORD}),
        (
            {
                "type": "OAUTH2",
                "token_url": "https://login.example.com/token",
                "client_id": "a",
                "client_secret": "env:PASSWORD",
            },
            {"tokenUrl": "https://login.example.com/token", "clientId": "a", "clientSecret": PASSWORD},
        ),
        (
            {"type": "JWT", "issuer": "i", "audience": "a", "key": "env:PASSWORD"},
            {"issuer": "i", "audience": "a", "key": PASSWORD},
        ),
    ],
)
async def test_only_what_was_given_is_sent_as_plain_json(auth: dict[str, str], sent: dict[str, str]) -> None:
    """Fault 8: a URL object is not JSON. Fault 11: nulls for what was not given."""
    script = answer(201, id="t-1", status="VERIFIED")

    def serve(request: Request) -> Reply:
        return answer(200, entities=[]) if request.method == "GET" else script

    async with Receiver(serve) as api, open_api(api.url) as session:
        await create(session, auth=auth)
        body = api.requests[-1].json()
        assert body["authConfig"] == sent
        assert body["endpointUrl"] == "https://api.gateway.example.com/v1/genesys/events"
        assert body["retryPolicy"] == {
            "maxRetries": 5,
            "backoffStrategy": "EXPONENTIAL",
            "initialDelaySeconds": 2,
        }
        assert b"null" not in api.requests[-1].body


async def test_made_again_it_is_the_same_target_with_what_is_wanted_now() -> None:
    """Fault 16."""
    async with open_sandbox() as session:
        first = await create(session)
        second = await create(session, event_types=["OTHER"], auth={"type": "NONE"})
        assert second.id == first.id
        [found] = await TARGET.read(session.context())
        assert found.fields == parse(event_types=["OTHER"], auth={"type": "NONE"}).fields
        assert session.sandbox
        assert session.sandbox.control.targets[first.id].secrets == {}
        assert step(session, "TARGET_UPDATED")["adopted"] is True


async def test_several_of_one_name_are_not_guessed_at() -> None:
    async with open_sandbox() as session:
        body = build_body(session.context(), parse())
        for _ in range(2):
            await session.api.post(PATH, body)
        with pytest.raises(UserError, match="2 have that name"):
            await create(session)


async def test_an_answer_that_was_lost_makes_no_second_target() -> None:
    async with open_sandbox(hidden_reads=2) as session:
        order(session, Rule(Match(PATH, 1), cut=True, take=True))
        made = await create(session)
        assert made.settled
        assert session.sandbox
        assert session.sandbox.stats().faults == {"script": 1}
        assert len(session.sandbox.control.targets) == 1


async def test_a_create_that_was_never_heard_of_is_not_repeated_blindly() -> None:
    async with open_sandbox() as session:
        order(session, Rule(Match(PATH, 1), cut=True))
        with pytest.raises(AmbiguousRequest):
            await create(session)
        assert session.entries() == ["TARGET_FAILED"]
        assert session.sandbox
        assert len(session.sandbox.control.targets) == 0
        assert (await create(session)).settled


async def test_an_answer_without_an_id_is_looked_up() -> None:
    """Fault 15: the seed reads an id where there need not be one."""
    listed = [[], [{"id": "t-1", "name": "orders"}]]

    def serve(request: Request) -> Reply:
        if request.method == "GET" and request.path.endswith("/verify"):
            return answer(200, status="VERIFIED")
        if request.method == "GET":
            return answer(200, entities=listed.pop(0))
        return answer(200) if request.method == "POST" else answer(200, status="PENDING_VERIFICATION")

    async with Receiver(serve) as api, open_api(api.url) as session:
        assert (await create(session)).id == "t-1"


@each("status", [404, 503])
async def test_trouble_right_after_the_create_costs_neither_the_target_nor_its_id(status: int) -> None:
    """Fault 13: the seed tells TARGET_FAILED under the name and leaves an orphan."""
    async with open_sandbox(hidden_reads=3 if status == 404 else 0) as session:
        times = range(1, 2 if status == 404 else 13)  # more than the client itself repeats
        order(session, *(Rule(Match(f"GET {ONE}/verify", n), answer=ScriptedAnswer(status)) for n in times))
        context = session.context(deadline_s=600.0)
        made = await TARGET.settle(context, await TARGET.create(context, parse(), {}), parse())
        assert made.settled
        assert session.entries() == ["TARGET_CREATED", "TARGET_VERIFIED"]
        assert step(session, "TARGET_CREATED")["target_id"] == made.id


async def test_one_that_failed_is_sent_once_more_to_be_verified_anew() -> None:
    status = "FAILED"

    def serve(request: Request) -> Reply:
        nonlocal status
        if request.method == "PUT":
            status = "PENDING_VERIFICATION"
        elif status == "PENDING_VERIFICATION":
            status = "VERIFIED"
        return answer(200, id="t-1", status=status)

    async with Receiver(serve) as api, open_api(api.url) as session:
        found = RemoteResource("target", "orders", "t-1", parse().fields, "FAILED", settled=False)
        assert (await TARGET.settle(session.context(), found, parse())).settled
        assert [request.method for request in api.requests] == ["PUT", "GET"]


@each(
    ("fault", "words"),
    [
        ("verify-fail:1", "is FAILED: the endpoint answered 500"),
        ("verify-timeout:1", "is TIMEOUT: the endpoint did not answer"),
        ("verify-odd:1", "is UNDER_REVIEW: not verified within 2m"),
    ],
)
async def test_what_is_not_verified_says_why_and_the_next_apply_goes_on(fault: str, words: str) -> None:
    async with open_sandbox() as session:
        assert session.sandbox
        session.sandbox.set_faults([parse_fault(fault)], [])
        with pytest.raises(UserError, match=words) as caught:
            await create(session)
        failed = step(session, "TARGET_VERIFICATION_FAILED")
        [found] = await TARGET.read(session.context())
        assert found.id in str(caught.value)
        assert failed["target_id"] == found.id
        assert failed["status"] == found.state
        assert not found.settled

        session.sandbox.set_faults([], [])
        settled = await TARGET.settle(session.context(), found, parse())
        assert settled.settled
        assert settled.id == found.id
        assert len(session.sandbox.control.targets) == 1


async def test_a_wait_that_is_over_is_told_with_the_time_it_took(caplog: pytest.LogCaptureFixture) -> None:
    """Fault 14: the seed audits no timeout, tells the create's latency for all of it, and skips over words
    that it does not know."""
    async with open_sandbox(verified_at_poll=0) as session:
        context = session.context(deadline_s=30.0)
        found = await TARGET.create(context, parse(), {})
        with pytest.raises(UserError, match="is PENDING_VERIFICATION: not verified within 30s"):
            await TARGET.settle(context, found, parse())
        failed = step(session, "TARGET_VERIFICATION_FAILED")
        assert 15 < failed["verification_s"] <= 30
        assert not caplog.records

        assert session.sandbox
        session.sandbox.set_faults([parse_fault("verify-odd:1")], [])
        for target in session.sandbox.control.targets:
            target.since -= 7200
        with caplog.at_level(logging.WARNING), pytest.raises(UserError):
            await TARGET.settle(context, found, parse())
        assert [record.getMessage() for record in caplog.records] == [
            "target orders: unknown status UNDER_REVIEW, taken as pending"
        ]


async def test_words_of_the_api_show_no_credential_and_stay_on_one_line() -> None:
    script = answer(200, status="FAILED", error="line one\nAuthorization: Bearer abcdefghijklmnop")
    async with Receiver(lambda request: script) as api, open_api(api.url) as session:
        found = RemoteResource(
            "target", "orders", "t-1", parse().fields, "PENDING_VERIFICATION", settled=False
        )
        with pytest.raises(UserError) as caught:
            await TARGET.settle(session.context(), found, parse())
        assert str(caught.value).isprintable()
        assert "line one" in str(caught.value)
        assert "abcdefgh" not in f"{caught.value}{session.notes}"


async def test_verifying_tells_its_own_time_not_that_of_the_create() -> None:
    """Fault 14: ``now - (now - base)``."""
    async with open_sandbox(verified_at_poll=6) as session:
        await create(session)
        assert step(session, "TARGET_VERIFIED")["verification_s"] > 1


async def test_polls_are_spread_and_bounded() -> None:
    async with open_sandbox(verified_at_poll=0) as session:
        context = session.context(deadline_s=120.0)
        found = await TARGET.create(context, parse(), {})
        session.clock.slept.clear()
        with pytest.raises(UserError):
            await TARGET.verify(context, found)
        slept = session.clock.slept
        assert max(slept) <= 5.0
        assert slept[0] <= 0.3
        assert len(set(slept)) > len(slept) / 2, "no jitter"
        assert len(slept) < 80


async def test_a_refused_target_is_told_without_its_secrets() -> None:
    """Fault 10: what is wrong is told, what was sent is not, even by an API that repeats it."""

    def serve(request: Request) -> Reply:
        if request.method == "GET":
            return answer(200, entities=[])
        return answer(400, code="bad.request", message=f"cannot use {PASSWORD}", contextId="ctx-1")

    async with Receiver(serve) as api, open_api(api.url) as session:
        with pytest.raises(ApiError) as caught:
            await create(session)
        assert "bad.request" in str(caught.value)
        assert "ctx-1" in str(caught.value)
        assert session.entries() == ["TARGET_FAILED"]
        assert PASSWORD not in f"{caught.value}{session.notes}"


async def test_a_busy_api_is_asked_again_when_it_says_so() -> None:
    """Fault 12: a date is no integer; the wait is before the next attempt, never after the last."""
    async with open_sandbox() as session:
        later = ScriptedAnswer(
            429,
            {"Retry-After": "Fri, 15 Jan 2027 08:00:07 GMT", "Date": "Fri, 15 Jan 2027 08:00:00 GMT"},
        )
        order(session, Rule(Match(PATH, 1), answer=later))
        assert (await create(session)).settled
        assert max(session.clock.slept) >= 7


@each("wanted", [{"headers": {"X-Api-Key": "env:BAD"}}, {"auth": {"type": "NONE"}}])
async def test_a_secret_that_is_no_header_value_is_not_sent(wanted: dict[str, Any]) -> None:
    async with open_sandbox() as session:
        session.secrets["env:BAD"] = "line\r\nhost: evil"
        if "headers" in wanted:
            with pytest.raises(UserError, match=r"headers.x-api-key: env:BAD is not fit") as caught:
                await create(session, **wanted)
            assert "evil" not in str(caught.value)
        else:
            assert (await create(session, **wanted)).settled


@each(
    "changes",
    [
        {"endpoint_url": "https://127.0.0.1/events"},
        {"endpoint_url": "http://localhost:8080/events"},
        {"endpoint_url": "https://[::ffff:10.0.0.1]/events"},
        {
            "auth": {
                "type": "OAUTH2",
                "token_url": "https://192.168.1.1/token",
                "client_id": "a",
                "client_secret": "env:PASSWORD",
            }
        },
    ],
)
async def test_internal_addresses_are_refused_unless_they_are_allowed(changes: dict[str, Any]) -> None:
    """Fault 18, before anything is sent."""
    async with open_sandbox() as session:
        with pytest.raises(UserError, match=r"internal|https://"):
            await create(session, **changes)
        assert session.sandbox
        assert session.sandbox.stats().requests == 0
        context = session.context(allow_private=True)
        assert (await TARGET.create(context, parse(**changes), {})).id


async def test_a_target_too_large_is_refused_before_it_is_sent() -> None:
    """Fault 18: the seed estimates and does nothing with it."""
    async with open_sandbox() as session:
        with pytest.raises(UserError, match=f"at most {MAX_PAYLOAD_BYTES} are taken"):
            await create(
                session,
                headers={f"x-{number}": 8192 * "v" for number in range(50)},
                event_types=[f"{number:0256}" for number in range(1000)],
            )
        assert session.sandbox
        assert session.sandbox.stats().requests == 0
        assert estimate_payload_bytes({"ä": "ö"}) == len(json.dumps({"ä": "ö"})) + 256


async def test_update_and_delete_are_told() -> None:
    async with open_sandbox() as session:
        found = await create(session)
        changed = await TARGET.update(session.context(), found, parse(event_types=["OTHER"]), {})
        assert changed.settled
        assert changed.fields["event_types"] == ["OTHER"]
        moved = await TARGET.update(
            session.context(), changed, parse(endpoint_url="https://example.com/other"), {}
        )
        assert not moved.settled
        assert (await TARGET.settle(session.context(), moved, parse())).settled
        await TARGET.delete(session.context(), moved)
        await TARGET.delete(session.context(), moved)
        assert await TARGET.read(session.context()) == []
        assert session.entries().count("TARGET_UPDATED") == 2
        assert session.entries()[-1] == "TARGET_DELETED"
        assert {step.entry for step in session.notes} <= set(AuditEntry)


@each("sick", [False, True])
async def test_health_is_asked_for_and_told(sick: bool) -> None:
    async with open_sandbox() as session:
        found = await create(session)
        assert session.sandbox
        session.sandbox.set_faults([parse_fault("health-fail:1")] if sick else [], [])
        health = await TARGET.health(session.context(), found)
        assert health["status"] == ("UNHEALTHY" if sick else "HEALTHY")
        assert step(session, "HEALTH_CHECK_TRIGGERED")["status"] == health["status"]


@each("kind", ["NONE", "BASIC", "OAUTH2", "JWT"])
async def test_an_export_makes_the_same_target(kind: str) -> None:
    entity = {
        "id": "t-1",
        "name": "orders of 2026",
        "endpointUrl": "https://Example.com",
        "authType": kind,
        "status": "VERIFIED",
        "headers": {"X-Api-Key": "k-1234567890", "X-Source": "a"},
        "eventTypes": ["B", "A", "B"],
    }
    script = answer(200, entities=[entity])
    async with Receiver(lambda request: script) as api, open_api(api.url) as session:
        [found] = await TARGET.read(session.context())
    exported = TARGET.export(found)
    assert TARGET.parse("any-name", exported).fields == found.fields
    assert exported["headers"] == {"x-api-key": "env:ORDERS_OF_2026_X_API_KEY", "x-source": "a"}
    assert "k-1234567890" not in f"{found}{exported}"
    if kind == "BASIC":
        assert exported["auth"]["password"] == "env:ORDERS_OF_2026_PASSWORD"


@each("entity", [None, [], {}, {"id": 5}, {"id": ""}])
async def test_an_answer_that_is_no_target_is_said_so(entity: Any) -> None:
    script = answer(200, entities=[entity])
    async with Receiver(lambda request: script) as api, open_api(api.url) as session:
        with pytest.raises(UserError, match="no id in it"):
            await TARGET.read(session.context())


async def test_a_connection_that_breaks_at_a_change_is_told() -> None:
    async with Receiver(lambda request: Cut("rst")) as api, open_api(api.url) as session:
        found = RemoteResource("target", "orders", "t-1", parse().fields, "VERIFIED")
        with pytest.raises(UserError):
            await TARGET.update(session.context(), found, parse(), {})
        assert step(session, "TARGET_FAILED")["target_id"] == "t-1"


def test_the_wanted_survives_being_written_down() -> None:
    """Revisions keep what was wanted: as JSON, with references and without secrets."""
    wanted = Target().parse("orders", table(webhook={"url": "https://example.com/h", "secret": "env:HOOK"}))
    import msgspec

    assert PASSWORD not in json.dumps(msgspec.to_builtins(wanted))
