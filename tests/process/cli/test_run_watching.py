"""What the service shows of itself: readiness with its reasons, metrics, status; and what it never shows."""

import asyncio
import base64
import json
import os
import re
import signal
import sqlite3

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from ingestd.telemetry.metrics import ServiceMetrics
from tests.event_api import INVALID, event, events
from tests.ports import free_port
from tests.process.cli.run_support import Keeper, producer, serve, starting, told, words
from tests.process.cli.support import Place, until
from tests.receiver import Action, Reply, Request

pytestmark = pytest.mark.anyio


async def test_while_it_starts_it_lives_and_is_not_ready(place: Place) -> None:
    async with Keeper() as api:
        async with serve(place, api) as serving:
            await serving.stop()
        other = sqlite3.connect(place.state / "state.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        arguments = words(place, api)
        port = free_port()
        arguments[arguments.index("--admin-listen") + 1] = f"127.0.0.1:{port}"
        async with starting(place, arguments) as early:
            lock = place.state / "lock"
            await until(lambda: lock.read_text() == str(early.process.pid))
            early.admin_port = port
            assert await early.reasons() == ["service: is starting"]
            assert (await early.get("/healthz")).status == 200
            assert (await early.status())["state"] == "starting"
            assert await early.metric("ingestd_ready") == 0
            other.execute("COMMIT")
            other.close()
            await early.listening()
            assert await early.reasons() == []
            assert (await early.status())["state"] == "running"
            await early.stop()


async def test_while_it_stops_it_says_so_to_the_end(place: Place) -> None:
    async with Keeper() as api, serve(place, api) as serving, producer(serving.ingest_port) as one:
        api.open_gate.clear()
        await one.give(events(10))
        await api.until(lambda api: api.in_flight == 1)
        serving.send(signal.SIGTERM)
        await serving.said("shutting down")
        assert await serving.reasons() == ["service: is shutting down"]
        assert (await serving.get("/healthz")).status == 200
        assert (await serving.status())["state"] == "stopping"
        api.open_gate.set()
        assert (await serving.finish()).code == 0


async def test_every_metric_of_the_service_is_there_and_counts(place: Place) -> None:
    async with Keeper() as api, serve(place, api) as serving, producer(serving.ingest_port) as one:
        assert (await one.post([*events(30), event(0), INVALID])).status == 202
        await serving.until_empty()
        answer = await serving.get("/metrics")
        found = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
        registry = CollectorRegistry()
        ServiceMetrics(registry)
        wanted = {family.name for family in registry.collect()}
        assert wanted <= found.keys(), wanted - found.keys()
        assert all(family.documentation for name, family in found.items() if name.startswith("ingestd_"))
        metrics = await serving.metrics()
        assert metrics["ingestd_http_requests_total", frozenset({("code", "202")})] == 1
        assert metrics["ingestd_producer_events_total", frozenset({("producer", "anonymous")})] == 30
        assert metrics["ingestd_commit_seconds_count", frozenset()] > 0
        assert metrics["ingestd_http_connections", frozenset()] == 1
        assert metrics["ingestd_state_file_bytes", frozenset({("file", "db")})] > 0
        ends = {dict(labels)["outcome"]: n for (name, labels), n in metrics.items() if name == EVENTS}
        assert (ends["delivered"], ends["duplicate"], ends["rejected"]) == (30, 1, 1)
        ledger = (await serving.status())["ledger"]
        assert (ledger["accepted"], ledger["in_flight"]) == (32, 0)


EVENTS = "ingestd_events_total"
TOKEN, SECRET = "CANARY-producer-token-0001", "CANARY-client-secret-0002"
WEBHOOK = base64.b64encode(b"CANARY-webhook-secret-00003").decode()
BEARER = "CANARY-bearer-of-the-api-0004"


class TalkativeApi(Keeper):
    """Shows in its answers whatever it was sent, as careless servers do; takes only every third batch."""

    def __init__(self) -> None:
        super().__init__(self._fault)
        self.token = self._token
        self.asked = 0

    def _token(self, request: Request) -> Action:
        self.asked += 1
        if self.asked == 1:
            shown = json.dumps({"error": "invalid_client", "you_sent": request.body.decode(), "is": SECRET})
            return Reply(500, body=shown.encode())
        return Reply(body=json.dumps({"access_token": BEARER, "expires_in": 3600}).encode())

    def _fault(self, request: Request) -> Action | None:
        if len(self.batches) % 3 == 0:
            return None
        shown = {"errors": [], "message": "no", "headers": request.headers, "also": BEARER}
        return Reply(503 if len(self.batches) % 3 == 1 else 400, body=json.dumps(shown).encode())


async def test_no_secret_is_in_the_log_the_metrics_the_status_or_any_file(place: Place) -> None:
    file, token_file = place / "ingestd.toml", place / "shop.token"
    token_file.write_text(TOKEN)
    file.write_text(
        f"[log]\nlevel = 'debug'\n[ingest.producers.shop]\ntoken_file = '{token_file}'\n"
        f"webhook_secret = 'whsec_{WEBHOOK}'\n"
    )
    place.env = {"GENESYS_CLIENT_ID": "me", "GENESYS_CLIENT_SECRET": SECRET, "INGESTD_BATCH_MAX_EVENTS": "3"}
    async with TalkativeApi() as api:
        arguments = words(place, api, "--config", file, "--token-url", f"{api.url}/oauth/token")
        arguments.remove("--no-auth")
        async with starting(place, arguments) as serving:
            await serving.listening()
            async with producer(serving.ingest_port, token=TOKEN) as one:
                for first in range(0, 30, 3):
                    await one.give(events(3, first=first))
                answer = await one.post([INVALID])
                assert told(answer)["rejected"]
            async with producer(serving.ingest_port, token=TOKEN[:-1] + "x") as stranger:
                assert (await stranger.post(events(1))).status == 401
            async with producer(serving.ingest_port) as nobody:
                nobody.send(event(1), query=f"?access_token={TOKEN}".encode())
                assert (await nobody.client.answer()).status in (400, 401)
            await serving.until_empty()
            token_file.write_text("short")  # a reload that fails, and one that does not
            serving.send(signal.SIGHUP)
            await serving.said("stays as it was")
            token_file.write_text(TOKEN)
            serving.send(signal.SIGHUP)
            await serving.said("was read again")
            pages = [
                (await serving.get(path)).body for path in ("/metrics", "/v1/status", "/readyz", "/healthz")
            ]
            said = (await serving.stop()).err.encode()
    shown = {"log": said, **{f"page {n}": page for n, page in enumerate(pages)}}
    shown |= {path.name: path.read_bytes() for path in place.state.iterdir()}
    assert {"audit.jsonl", "state.db"} <= shown.keys()
    secrets = [TOKEN.encode(), SECRET.encode(), WEBHOOK.encode(), base64.b64decode(WEBHOOK), BEARER.encode()]
    for where, data in shown.items():
        for secret in (*secrets, b"CANARY"):
            assert secret not in data, f"{secret!r} is in {where}"
    assert place.letters()  # the answers of the API are kept, without what they showed


async def test_a_loop_that_stands_still_is_noticed(place: Place) -> None:
    async with Keeper() as api, serve(place, api) as serving:
        serving.send(signal.SIGSTOP)
        await asyncio.sleep(2.6)  # longer than the watchdog's threshold, to be seen
        os.kill(serving.process.pid, signal.SIGCONT)
        line = await serving.said("stood still")
        assert re.search(r"\d\.\d s", line["message"])
        assert await serving.metric("ingestd_loop_blocked_total") == 1
        assert (await serving.get("/healthz")).status == 200
        await serving.stop()
