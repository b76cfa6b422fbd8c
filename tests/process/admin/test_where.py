"""Where one event is: by key, as the event itself, by request id; in the page and in the terminal."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio import to_thread

from ingestd.app.admin_client import AdminClient
from ingestd.core.errors import UserError
from tests.each import each
from tests.event_api import INVALID, event, write
from tests.machine import patience
from tests.process.admin.test_console import CRM, Api, configured
from tests.process.cli.run_support import Serving, post, serve
from tests.process.cli.support import Place, invoke
from tests.receiver import Receiver, Reply, in_turn

pytestmark = pytest.mark.anyio


async def ask(serving: Serving, key: str) -> dict[str, Any]:
    async with httpx.AsyncClient(
        timeout=patience(30), base_url=f"http://127.0.0.1:{serving.admin_port}", trust_env=False, verify=False
    ) as one:
        page = await one.get("/where", params={"key": key})
        found: dict[str, Any] = (await one.get("/v1/where", params={"key": key})).json()
        assert (page.status_code, found["words"] in page.text) == (200, True)
        return found


def key(number: int) -> str:
    return f"i-{number:06},routing.interaction.queue,2026-01-01T09:00:00Z"


async def test_each_event_is_found_with_all_that_became_of_it(place: Place) -> None:
    api, words = Api(), configured(place)
    async with api.server:
        await first_life(place, api, words)
        api.up = True
        async with serve(place, api.server, *words) as serving:  # what was known is known after a crash
            await serving.until_empty()
            assert [one["what"] for one in (await ask(serving, key(1)))["steps"]] == ["accepted", "delivered"]
            assert (await ask(serving, key(3)))["words"] == "It is delivered: ingest_api."
            assert (await ask(serving, "i-000003"))["words"].endswith(
                " The key of an event here has 3 parts: interactionId,eventType,eventTime."
            )


async def first_life(place: Place, api: Api, words: list[object]) -> None:
    async with serve(place, api.server, *words) as serving:
        body = [event(1, note="good"), event(2, note="bad"), event(1, note="good")]
        assert (await post(serving.ingest_port, body, token=CRM)).status == 202
        await serving.until_empty()
        good = await ask(serving, key(1))
        assert good["words"] == "It is delivered: ingest_api."
        assert [(one["what"], one.get("producer")) for one in good["steps"]] == [
            ("accepted", "crm"),
            ("delivered", None),
        ]
        request = good["steps"][1]["batch"]
        assert request in {one["request_id"] for one in good["attempts"]}
        assert [one["event"] for one in good["attempts"]][-1] == "BATCH_DELIVERED"
        assert (await ask(serving, event(1, note="another").decode()))["steps"] == good["steps"]
        assert (await ask(serving, request))["steps"][0]["events"] == 1

        bad = await ask(serving, key(2))
        assert bad["words"] == "It is a dead letter (ingest_api): refused."
        assert [one["what"] for one in bad["steps"]] == ["accepted", "dead_lettered"]
        assert bad["letters"][0]["id"] == 1
        assert [one["event"] for one in bad["attempts"]].count("DEAD_LETTERED") == 1
        assert "DEAD_LETTERED" not in {one["event"] for one in good["attempts"]}, "that is another event's"
        shown = place.call(*place.dlq("show", 1, "--json"))
        assert json.loads(shown.out)["producer"] == "crm"

        api.up = False
        assert (await post(serving.ingest_port, [event(3, note="late")], token=CRM)).status == 202
        await serving.until(lambda told: told["lanes"][0]["circuit"] != "closed")
        late = await ask(serving, key(3))
        assert late["words"] == "It was accepted, and waits for ingest_api."
        assert "503" in late["waiting"][0]["why"]
        never = await ask(serving, key(4))
        assert never["words"].startswith("No event with this key")
        url = f"http://127.0.0.1:{serving.admin_port}"
        done = await place.run("where", key(1), "--url", url)
        assert (done.code, "It is delivered" in done.out, request in done.out) == (0, True, True)
        assert (await place.run("where", key(4), "--url", url, "--json")).code == 3
        long = event(1, note="x" * 90_000).decode()  # longer than an address may be
        assert "It is delivered" in (await place.run("where", long, "--url", url)).out
        async with httpx.AsyncClient(
            timeout=patience(30), base_url=url, trust_env=False, verify=False
        ) as one:
            assert "It is delivered" in (await one.post("/where", data={"key": long})).text
            assert 'method="post" action="/where"' in (await one.get("/where")).text
        await serving.kill()
    told = {number: on_disk(place, key(number)) for number in range(1, 5)}
    assert [one["words"].partition(":")[0] for one in told.values()] == [
        "It is delivered",
        "It is a dead letter (ingest_api)",
        "It was accepted, and waits for the only sink.",
        "No event with this key, and no request with this id, is known",
    ]
    assert told[1].keys() == good.keys()
    assert told[1]["steps"] == good["steps"]
    assert told[1]["attempts"] == good["attempts"]


def on_disk(place: Place, asked: str) -> dict[str, Any]:
    done = invoke(["where", asked, "--state-dir", str(place.state), "--json"])
    assert done.code in (0, 3), done
    found: dict[str, Any] = json.loads(done.out)
    return found


async def test_of_a_replay_what_is_on_disk_is_told(place: Place) -> None:
    async with Receiver() as api:
        write(place / "events.ndjson", [event(1), event(2), INVALID])
        assert (await place.run(*place.replay(api, place / "events.ndjson", "--quiet"))).code == 3
    assert on_disk(place, key(1))["words"].startswith("It is known: it was delivered")
    assert on_disk(place, event(2).decode())["state"] == "known"
    assert on_disk(place, key(4))["state"] == "new"


async def test_the_owner_of_an_event_among_those_of_others_is_told(place: Place) -> None:
    api = Api()
    file = configured(place)
    with (place / "ingestd.toml").open("a") as more:
        more.write("[ingest.producers.ivr]\ntoken = 'ivr-posts-its-events'\n")
    async with api.server, serve(place, api.server, *file) as serving:
        for number in range(1, 7):
            token = CRM if number % 2 else "ivr-posts-its-events"
            assert (await post(serving.ingest_port, [event(number)], token=token)).status == 202
        await serving.until_empty()
        found = [(await ask(serving, key(number)))["steps"][0]["producer"] for number in range(1, 7)]
        assert found == ["crm", "ivr"] * 3
        assert json.dumps(await ask(serving, key(1))).count("posts-its-events") == 0


@each(
    "answer",
    [
        Reply(200, body=b"{}"),
        Reply(200, body=b"[]"),
        Reply(200, body=b"no JSON"),
        Reply(200, body=b"[" * 100_000),
        Reply(404, body=b'{"error": []}'),
        Reply(302, headers={"Location": "/elsewhere"}),
    ],
)
async def test_a_server_of_another_kind_is_told_from_the_service(answer: Reply) -> None:
    async with Receiver(in_turn(answer)) as other:

        def ask_all() -> None:
            with AdminClient(other.url) as client:
                with pytest.raises(UserError, match="not as ingestd does"):
                    client.get("/v1/overview")
                with pytest.raises(UserError, match="not as ingestd does"):
                    client.post("/v1/where", key="k")
                with pytest.raises(UserError, match="not as ingestd does"):
                    list(client.lines("/v1/tap"))

        await to_thread.run_sync(ask_all)


def test_a_token_that_no_header_can_have_is_said(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t\u00f6ken")
    with pytest.raises(UserError, match="token"):
        AdminClient(token_file=str(tmp_path / "token"))
