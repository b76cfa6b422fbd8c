"""What can be seen of a run: metrics, the audit file, the progress on a terminal and elsewhere."""

import asyncio
import os
import pty
import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.catalogue import PIPELINE_CATALOGUE, SINK_CATALOGUE
from tests.event_api import INVALID, EventApi, event, events, events_of, write
from tests.machine import patience
from tests.ports import free_port
from tests.process.cli.support import COMMAND, Place
from tests.receiver import Action, Reply, Request

pytestmark = pytest.mark.anyio


async def test_metrics_are_those_of_the_catalogue_and_balance(place: Place) -> None:
    source = write(place / "in.ndjson", [INVALID, *events(40), *events(5, first=1)])
    held = asyncio.Event()

    async def answer(request: Request) -> Reply:
        if event(39) in request.body:
            await held.wait()
        elif event(0) in request.body:
            return Reply(
                409 if len(api.requests) > 4 else 400, body=b'{"errors":[{"index":0,"message":"m"}]}'
            )
        return Reply()

    port = free_port()
    words = ("--max-batch-events", 10, "--metrics-port", port)
    async with EventApi(answer) as api, place.start(*place.replay(api, source, *words)) as running:
        await api.until(lambda api: len(api.events) >= 49 and api.in_flight == 1)
        async with httpx.AsyncClient(timeout=patience(30), trust_env=False, verify=False) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/healthz")).text == "ok\n"
            page = await http.get(f"http://127.0.0.1:{port}/metrics")
            openmetrics = await http.get(
                f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"}
            )
        held.set()
        done = await running.finish()
    assert done.code == 3, done
    assert page.headers["content-type"].startswith("text/plain; version=")
    assert openmetrics.text.endswith("# EOF\n")
    families = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(page.text)
        if not family.name.endswith("_created")
    }
    assert {name: family.type for name, family in families.items()} == {
        name: kind for name, (kind, _) in (PIPELINE_CATALOGUE | SINK_CATALOGUE).items()
    }
    assert all(
        families[name].documentation == text
        for name, (_, text) in (PIPELINE_CATALOGUE | SINK_CATALOGUE).items()
    )

    def value(name: str, **labels: str) -> float:
        return sum(s.value for s in families[name].samples if labels.items() <= s.labels.items())

    accepted, in_flight = value("ingestd_accepted_events_total"), value("ingestd_in_flight_events")
    assert (accepted, in_flight > 0) == (46, True)
    assert accepted == value("ingestd_events_total") + in_flight
    assert value("ingestd_events_total", outcome="rejected") == 1
    assert value("ingestd_dead_letters_total", reason="refused") == 1
    assert value("ingestd_active_requests") == 1


async def test_a_port_that_is_taken_is_said_in_one_line(place: Place) -> None:
    source = write(place / "in.ndjson", events(3))
    async with EventApi() as api:
        done = await place.run(*place.replay(api, source, "--metrics-port", api.port))
    assert (done.code, len(done.said), api.requests) == (2, 1, [])
    assert f"cannot serve metrics on 127.0.0.1:{api.port}" in done.err


async def test_the_audit_file_tells_the_life_of_every_batch(place: Place) -> None:
    source = write(place / "in.ndjson", [INVALID, *events(20)])

    def answer(request: Request) -> Action:
        if len(api.requests) == 1:
            return Reply(503)
        bad = event(15) in events_of(request)
        return Reply(200, body=b'{"errors":[{"index":5,"message":"no\\nsuch queue"}]}') if bad else Reply()

    async with EventApi(answer) as api:
        words = ("--max-batch-events", 10, "--max-in-flight", 1, "--audit-log", place / "audit.jsonl")
        done = await place.run(*place.replay(api, source, *words))
    assert done.code == 3, done
    (place.state / "audit.jsonl").symlink_to(place / "audit.jsonl")
    audit = place.audit()
    assert (audit[0]["event"], audit[-1]["event"]) == (AuditEntry.RUN_STARTED, AuditEntry.RUN_FINISHED)
    assert (audit[-1]["accepted"], audit[-1]["delivered"], audit[-1]["exit_code"]) == (21, 19, 3)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", entry["time"]) for entry in audit)
    by_kind = {kind: [entry for entry in audit if entry["event"] == kind] for kind in AuditEntry}
    rejected = by_kind[AuditEntry.INGESTION_REJECTED][0]
    assert (rejected["count"], rejected["reason"], rejected["first_line"]) == (1, "invalid", 1)
    retried = by_kind[AuditEntry.BATCH_RETRIED][0]
    assert (retried["attempt"], retried["request_id"]) == (2, api.keys[0])
    buried = by_kind[AuditEntry.DEAD_LETTERED][0]
    assert (buried["count"], buried["reason"], "such queue" in buried["error"]) == (1, "refused", True)
    sent = {entry["request_id"]: entry["events"] for entry in by_kind[AuditEntry.BATCH_SUBMITTED]}
    assert sent == {key: len(events_of(r)) for key, r in zip(api.keys, api.batches, strict=True)}
    delivered = by_kind[AuditEntry.BATCH_DELIVERED]
    assert sum(entry["events"] for entry in delivered) == 19
    assert all(entry["latency_ms"] > 0 and entry["attempts"] >= 1 for entry in delivered)
    assert {entry["request_id"] for entry in delivered} <= set(api.keys)


async def test_on_a_terminal_a_bar_with_the_counts_appears_and_the_ledger_at_the_end(place: Place) -> None:
    source = write(place / "in.ndjson", events(200))

    async def slow(request: Request) -> Reply:
        await asyncio.sleep(0.1)
        return Reply()

    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    seen = bytearray()
    loop = asyncio.get_running_loop()

    def look() -> None:
        try:
            seen.extend(os.read(ours, 65536))
        except OSError:  # the other end is closed
            loop.remove_reader(ours)

    async with EventApi(slow) as api:
        words = place.replay(api, source, "--max-batch-events", 10, "--max-in-flight", 1)
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *map(str, words), stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        loop.add_reader(ours, look)
        os.close(theirs)
        assert await asyncio.wait_for(process.wait(), patience(30)) == 0
    look()
    loop.remove_reader(ours)
    os.close(ours)
    text = seen.decode()
    assert re.search(r"[1-9]\d* delivered, 0 duplicates, 0 rejected, 0 dead letters, \d+ in flight", text)
    assert "━" in text
    assert "events/s" in text
    assert re.search(r"accepted +200\r\n +. delivered +200\r\n", text)
    assert "Traceback" not in text


async def test_elsewhere_there_are_plain_lines_without_control_characters(place: Place) -> None:
    source = write(place / "in.ndjson", events(200))

    async def slow(request: Request) -> Reply:
        await asyncio.sleep(0.3)
        return Reply()

    async with EventApi(slow) as api:
        done = await place.run(*place.replay(api, source, "--max-batch-events", 10, "--max-in-flight", 1))
    assert done.code == 0
    assert done.said
    line = r"ingestd: \d+ % done, [\d,]+ delivered, 0 duplicates, .* in flight, [\d,]+ events/s"
    assert all(re.fullmatch(line, said) for said in done.said), done.said
    assert "\x1b" not in done.err + done.out
