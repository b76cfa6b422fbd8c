"""Webhooks through the whole pipeline: signatures, their rotation, the handshake, URLs that are secrets."""

import asyncio
import base64
import json
from typing import Any

import pytest

from ingestd.core.errors import UserError
from ingestd.sandbox.remote_apis import WEBHOOK_PATH
from ingestd.sandbox.server import Sandbox
from tests import event_api
from tests.process.cli.sink_support import assert_once, options, replay
from tests.process.cli.support import Place, until

pytestmark = pytest.mark.anyio

TROUBLE = ("429:0.1:0", "503:0.1:0", "500:0.05", "cut-before:0.05")
LOST_ANSWER = ("cut:0.1",)

OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))


def webhook(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": url, **more}


def signed(place: Place, *secrets: str) -> dict[str, str]:
    path = place / "secrets"
    path.write_text("\n".join(secrets))
    return {"type": "standard_webhooks", "secret_file": str(path)}


@pytest.mark.parametrize("body", ["event", "array", "ndjson"])
async def test_a_hook_that_checks_signatures_takes_every_event_once(place: Place, body: str) -> None:
    events = event_api.events(100)
    faults = (*TROUBLE, *LOST_ANSWER, "partial:0.1")
    async with Sandbox(options(*faults, webhook_secrets=[NEW])).serve() as sandbox:
        sink = webhook(f"{sandbox.url}/hooks/x", body=body, auth=signed(place, OLD, NEW))
        done = await replay(place, events, {"one": sink})
        stats = sandbox.sandbox.stats().paths["/hooks/x"]
    assert_once(stats, 100)
    assert "401" not in stats.by_status
    assert done.letters == []
    assert sorted(sandbox.sandbox.kept("/hooks/x")) == events


async def test_a_secret_that_is_changed_in_its_file_is_used_without_a_restart(place: Place) -> None:
    async with Sandbox(options(webhook_secrets=[NEW])).serve() as sandbox, asyncio.TaskGroup() as tasks:
        sink = webhook(f"{sandbox.url}/hooks/x", auth=signed(place, OLD))
        stats = sandbox.sandbox.stats
        going = tasks.create_task(replay(place, event_api.events(20), {"one": sink}))
        await until(lambda: stats().by_status.get("401", 0) > 0)
        signed(place, NEW)
        done = await going
    assert_once(stats().paths["/hooks/x"], 20)
    assert done.letters == []
    assert not any(secret[6:] in warning for warning in done.warnings for secret in (OLD, NEW))


async def test_the_platforms_webhook_takes_every_event_and_its_url_is_told_nowhere(place: Place) -> None:
    token = "CANARY-hook-1234"
    events = event_api.events(40)
    async with Sandbox(options(*TROUBLE, webhook_tokens=[token])).serve() as sandbox:
        sink = webhook(f"{sandbox.url}{WEBHOOK_PATH.replace('{token}', token)}")
        done = await replay(place, events, {"one": sink})
        stats = sandbox.sandbox.stats().paths[WEBHOOK_PATH]
    assert_once(stats, 40)
    told = json.dumps([done.report, done.warnings, place.audit()], default=str)
    assert token not in told


async def test_a_receiver_that_wants_to_be_asked_is_asked_first(place: Place) -> None:
    async with Sandbox(options(handshake_required=True)).serve() as sandbox:
        sink = webhook(f"{sandbox.url}/hooks/x", handshake_origin="events.example.com")
        await replay(place, event_api.events(20), {"one": sink})
        paths = sandbox.sandbox.stats().paths
    assert_once(paths["/hooks/x"], 20)
    assert paths["/hooks/x"].by_status == {"200": 20}
    assert paths["OPTIONS /hooks/x"].requests == 1


async def test_a_receiver_that_does_not_want_any_gets_none_and_the_events_stay(place: Place) -> None:
    async with Sandbox(options("handshake-refuse:1")).serve() as sandbox:
        sink = webhook(f"{sandbox.url}/hooks/x", handshake_origin="events.example.com")
        done = await replay(
            place,
            event_api.events(20),
            {"one": sink},
            delivery={"startup_timeout": 0.05, "give_up_after": 0.05},
        )
        paths = sandbox.sandbox.stats().paths
    assert "/hooks/x" not in paths
    assert done.report["exit_code"] == 4
    assert "does not let events.example.com send" in done.report["error"]
    assert done.report["in_flight"] == 20
    assert done.letters == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:80/CANARY",
        "ftp://x/CANARY",
        "http://[::1/CANARY",
        "http://x:99999/CANARY",
        "http://a b",
    ],
)
async def test_a_url_that_is_none_is_told_at_the_start_and_not_quoted(place: Place, url: str) -> None:
    (place / "url").write_text(url)
    with pytest.raises(UserError, match=r"^sinks\.one\.url_file: (it |not a valid URL)") as raised:
        await replay(place, [], {"one": {"type": "webhook", "url_file": str(place / "url")}})
    assert "CANARY" not in str(raised.value)
