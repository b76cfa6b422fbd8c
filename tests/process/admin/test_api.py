"""The JSON API of the admin address is what its document says, whoever asks for what."""

import asyncio
import json
import sqlite3
from typing import Any

import httpx
import pytest
from anyio import to_thread
from hypothesis import given, settings

from tests.effort import examples
from tests.event_api import EventApi, event
from tests.machine import patience
from tests.process.admin.test_console import ANNA, BERT, CRM, Api, configured, with_letters
from tests.process.cli.run_support import post, serve
from tests.process.cli.support import Place

pytestmark = pytest.mark.anyio


def try_all(url: str, document: object) -> set[str]:
    """Requests of every kind that the document has; gives the operations that were tried."""
    import schemathesis  # half a second, in each process that collects the tests

    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(document)))
    found = [one.ok() for one in schema.get_all_operations()]
    for operation in found:
        try_one(operation, url)
    return {operation.label for operation in found}


def try_one(operation: Any, url: str) -> None:
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    # any text may be typed for an event; whether it is valid is another question
    loose = [positive_data_acceptance] if operation.path.endswith("/edit") else []

    @settings(max_examples=examples(4))
    @given(case=operation.as_strategy())
    def one(case: Any) -> None:
        answer = case.call(base_url=url, headers={"Authorization": f"Bearer {ANNA}"})
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, excluded_checks=loose)

    one()


async def test_every_answer_is_as_the_document_says(place: Place) -> None:
    api = Api()
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        await with_letters(serving, 2)
        url = f"http://127.0.0.1:{serving.admin_port}"
        async with httpx.AsyncClient(
            timeout=patience(30), base_url=url, trust_env=False, verify=False
        ) as client:
            document = (await client.get("/v1/openapi.json")).json()
        tried = await to_thread.run_sync(try_all, url, document)
        assert {"GET /v1/overview", "POST /v1/letters/purge", "POST /v1/sinks/{name}/probe"} <= tried


async def test_a_program_looks_corrects_and_sends(place: Place) -> None:
    api = Api()
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        await with_letters(serving, 2)
        url = f"http://127.0.0.1:{serving.admin_port}"
        anna = {"Authorization": f"Bearer {ANNA}"}
        async with httpx.AsyncClient(
            timeout=patience(30), base_url=url, trust_env=False, verify=False
        ) as client:
            assert (await client.post("/v1/letters/retry", json={})).status_code == 401
            bert = {"Authorization": f"Bearer {BERT}"}
            assert (await client.post("/v1/letters/retry", json={}, headers=bert)).status_code == 403
            told = (await client.get("/v1/letters", params={"sink": "ingest_api"})).json()
            assert (told["total"], [one["id"] for one in told["letters"]]) == (2, [1, 2])
            (group,) = (await client.get("/v1/letters/groups")).json()["groups"]
            assert group["count"] == 2
            dry = (await client.post("/v1/letters/retry", json={}, headers=anna)).json()
            assert (dry["dry_run"], dry["selected"]) == (True, 2)
            one = (await client.get("/v1/letters/1")).json()
            assert {"BATCH_SUBMITTED", "DEAD_LETTERED"} <= {line["event"] for line in one["timeline"]}
            page = (await client.get("/letters/1")).text
            assert ("dead lettered" in page, one["batch"] in page) == (True, True)
            wrong = await client.post("/v1/letters/1/edit", content=b'{"a":1}', headers=anna)
            assert (wrong.status_code, "eventType" in wrong.json()["error"]) == (422, True)
            everything = await client.post("/v1/letters/purge", json={"dry_run": False}, headers=anna)
            assert (everything.status_code, '"all": true' in everything.json()["error"]) == (400, True)
            lines = (await client.get("/v1/letters/export", params={"producer": "crm"})).text.splitlines()
            assert [json.loads(one)["interactionId"] for one in lines] == ["i-000001", "i-000002"]
            (whole,) = (await client.get("/v1/letters/export?whole=true&text=I-000002")).text.splitlines()
            assert [json.loads(whole)[name] for name in ("id", "producer")] == [2, "crm"]
            assert (await client.get("/v1/letters/export?text=not-there")).text == ""
            assert (await client.head("/v1/letters/export")).status_code == 405
            good = await client.post("/v1/letters/1/edit", content=event(1, note="well"), headers=anna)
            assert good.json()["changed"] == 1
            await serving.until(lambda told: told["ledger"]["retried_delivered"] == 1)
            parked = {"text": "i-000002", "dry_run": False}
            told = (await client.post("/v1/letters/park", json=parked, headers=anna)).json()
            assert (told["selected"], told["words"]) == (1, ["1 of them waited for a person already"])
            gone = {"ids": [2], "dry_run": False}
            purged = (await client.post("/v1/letters/purge", json=gone, headers=anna)).json()
            assert purged["changed"] == 1
            wrong = [b'{"eventType":"CANARY-in-an-event"}'] * 2
            assert (await post(serving.ingest_port, wrong, token=CRM)).status == 422
            told = (await client.get("/v1/producers")).json()
            (crm,) = told["producers"]
            assert (crm["name"], crm["refused"], crm["throttled"]) == ("crm", 1, 0)
            last = told["refusals"][0]
            assert (last["status"], last["why"].startswith("2 events invalid: ")) == (422, True), last
            assert "CANARY-in-an-event" not in json.dumps(told)
            overview = (await client.get("/v1/overview")).json()
            assert [one["name"] for one in overview["sinks"]] == ["ingest_api"]
            assert [one["name"] for one in overview["producers"]] == ["crm"]
            parked = await client.post("/v1/sinks/ingest_api/park", headers=anna)
            assert parked.json()["words"] == ["ingest_api is parked: nothing is sent to it"]
            assert (await post(serving.ingest_port, [event(9)], token=CRM)).status == 202
            await serving.until(lambda told: told["spool"]["events"] == 1)
            while not (spool := (await client.get("/v1/overview")).json()["spool"])["parked_bytes"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert (spool["filled_by"], spool["full_in"]) == (None, None), "it takes no room from the others"


async def test_what_is_damaged_on_disk_is_not_exported_as_an_event_and_is_told(place: Place) -> None:
    """As ``dlq export`` does."""
    api = Api()
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        await with_letters(serving, 3)
        store = sqlite3.connect(place.state / "state.db")
        for table in ("single_letters", "sealed_letters"):
            store.execute(f"UPDATE {table} SET payload = ? WHERE id = 2", (event(999_991),))
        store.commit()
        store.close()
        url = f"http://127.0.0.1:{serving.admin_port}"
        async with httpx.AsyncClient(
            timeout=patience(30), base_url=url, trust_env=False, verify=False
        ) as client:
            found = await client.get("/v1/letters/export")
            ids = [json.loads(line)["interactionId"] for line in found.text.splitlines()]
            assert ids == ["i-000001", "i-000003"]
            assert (found.headers["ingestd-damaged"], found.headers["ingestd-damaged-letters"]) == ("1", "2")
            assert '"dead-letters-1-damaged-left-out.ndjson"' in found.headers["content-disposition"]
            whole = await client.get("/v1/letters/export?whole=true")
            assert [json.loads(line)["intact"] for line in whole.text.splitlines()] == [True, False, True]
            assert '"dead-letters-1-damaged.ndjson"' in whole.headers["content-disposition"]
            well = await client.get("/v1/letters/export?text=i-000003")
            assert (well.headers["ingestd-damaged"], "ingestd-damaged-letters" in well.headers) == (
                "0",
                False,
            )
            assert "damaged on disk; " in (await client.get("/letters")).text
            assert "damaged on disk" in (await client.get("/letters/2")).text
            assert "damaged on disk" not in (await client.get("/letters/1")).text


FORM = "application/x-www-form-urlencoded"
WRONG_BODIES: list[tuple[bytes, dict[str, str]]] = [
    (b"[" * 100_000, {"Content-Type": "application/json"}),
    (b'{"sink": NaN}', {"Content-Type": "application/json; charset=none-such"}),
    (b"{}", {"Content-Encoding": "gzip"}),
    (b"payload=%ff", {"Content-Type": FORM}),
    (b"&".join([b"a=1"] * 20_000), {"Content-Type": FORM}),
    (
        b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--",
        {"Content-Type": "multipart/form-data; boundary=x"},
    ),
]


async def test_a_body_that_cannot_be_read_is_refused_and_none_chosen_is_not_all(place: Place) -> None:
    api = Api()
    async with api.server, serve(place, api.server, *configured(place)) as serving:
        await with_letters(serving, 2)
        url = f"http://127.0.0.1:{serving.admin_port}"
        anna = {"Authorization": f"Bearer {ANNA}"}
        once = httpx.Limits(max_keepalive_connections=0)  # an address that did not read a body hangs up
        async with httpx.AsyncClient(
            timeout=patience(30), base_url=url, trust_env=False, verify=False, headers=anna, limits=once
        ) as client:
            for path in ("/v1/letters/purge", "/letters/change", "/letters/check", "/login"):
                for body, headers in WRONG_BODIES:
                    answer = await client.post(path, content=body, headers=headers)
                    assert answer.status_code == 400, (path, body[:40], answer.text)
            none = await client.post("/v1/letters/purge", json={"ids": [], "dry_run": False})
            assert (none.status_code, "names no letter" in none.json()["error"]) == (400, True)
            form = {"do": "purge", "chosen": "yes", "confirmed": "2"}
            none = await client.post("/letters/change", data=form)
            assert (none.status_code, "no letter is chosen" in none.text) == (400, True)
            assert 'name="chosen"' in (await client.get("/letters")).text
            assert (await client.get("/v1/letters")).json()["total"] == 2
            other = await client.post(
                "/letters/check",
                content=b"payload={}",
                headers={"Content-Type": f"{FORM}; charset=none-such"},
            )
            assert other.status_code == 200
    assert not [line for line in serving.log if "exception" in line]


async def test_from_another_name_nothing_is_shown(place: Place) -> None:
    """DNS rebinding: a page of another site that this machine's browser asks under that site's name."""
    async with EventApi() as api, serve(place, api, *configured(place)) as serving:
        assert (await post(serving.ingest_port, [event(1)], token=CRM)).status == 202
        url = f"http://127.0.0.1:{serving.admin_port}"
        async with httpx.AsyncClient(
            timeout=patience(30), base_url=url, trust_env=False, verify=False
        ) as client:
            for path in ("/", "/letters", "/v1/overview", "/configuration"):
                answer = await client.get(path, headers={"Host": "rebound.example"})
                assert answer.status_code == 401, path
                assert "north" not in answer.text
            assert (await client.get("/healthz", headers={"Host": "probe.example"})).status_code == 200
