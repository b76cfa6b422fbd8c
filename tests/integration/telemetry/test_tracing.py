"""Traces of a running service, as a receiver of OTLP gets them: decoded from what comes in over HTTP."""

import asyncio
import gzip
import json
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ingestd.app.checks.tracing import check_tracing
from ingestd.app.open_service import open_service
from ingestd.app.run import run
from ingestd.app.service_parts import Service
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.telemetry.tracing import MAX_CHUNKS, Spans
from tests.event_api import EventApi, event
from tests.machine import patience
from tests.receiver import Hang, Receiver, Reply, Request, in_turn

pytestmark = pytest.mark.anyio
SECRET, NOTE = "collector-token-9d41", "a-note-in-the-payload"


class Collector(Receiver):
    """A receiver of OTLP over HTTP."""

    @property
    def spans(self) -> list[Span]:
        return [span for request in self.requests for span in decoded(request)]

    def of(self, trace: str) -> dict[str, list[Span]]:
        """By name, oldest first."""
        found: dict[str, list[Span]] = {}
        for span in sorted(self.spans, key=lambda one: one.start_time_unix_nano):
            if span.trace_id.hex() == trace:
                found.setdefault(span.name, []).append(span)
        return found


def decoded(request: Request) -> list[Span]:
    body = gzip.decompress(request.body) if "content-encoding" in request.headers else request.body
    told = ExportTraceServiceRequest.FromString(body)
    return [span for group in told.resource_spans for scope in group.scope_spans for span in scope.spans]


def attributes(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(patience(20)):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{what}: not seen")


@asynccontextmanager
async def serving(place: Path, api: str, collector: str, **tracing: Any) -> AsyncIterator[Service]:
    tree = {
        "api": {"url": api, "token_url": api + "/oauth/token", "client_id": "id", "client_secret": "CANARY"},
        "state": {"dir": str(place / "state")},
        "ingest": {"listen": "127.0.0.1:0", "producers": {"shop": {"token": "shop-token-0123456789"}}},
        "admin": {"listen": "127.0.0.1:0"},
        "batch": {"max_age": 0.3},
        "delivery": {"backoff_base": 0.01, "backoff_cap": 0.02, "shutdown_timeout": 5},
        "tracing": {"endpoint": collector + "/v1/traces", "token": SECRET, **tracing},
    }
    settings = Settings.model_validate(tree)
    async with open_service(lambda: settings) as service:
        running = asyncio.ensure_future(run(service))
        try:
            yield service
        finally:
            running.cancel()
            await asyncio.wait([running])


async def post(service: Service, number: int, parent: str | None) -> None:
    headers = {"Content-Type": "application/json", "Authorization": "Bearer shop-token-0123456789"}
    if parent:
        headers["traceparent"] = parent
    url = f"http://127.0.0.1:{service.server.port}/v1/events"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=event(number, note=NOTE), headers=headers) as answer,
    ):
        assert answer.status == 202, await answer.text()


def trace(digit: str) -> str:
    return digit * 32


def parent(digit: str, *, sampled: bool = True) -> str:
    return f"00-{trace(digit)}-{digit * 16}-0{int(sampled)}"


async def test_one_request_s_trace_goes_from_its_producer_to_the_sink(tmp_path: Path) -> None:
    async with Collector() as collector, EventApi(in_turn(Reply(503), Reply())) as api:
        async with serving(tmp_path, api.url, collector.url, sample=0) as service:
            await post(service, 1, parent("a"))
            await until(lambda: service.pipeline.ledger.delivered == 1, "the event")
            await post(service, 2, parent("b", sampled=False))
            await until(lambda: service.pipeline.ledger.delivered == 2, "another event")
            await until(lambda: len(collector.of(trace("a"))) == 4, "all spans")
            async with (
                aiohttp.ClientSession() as session,
                session.get(
                    f"http://127.0.0.1:{service.admin_port}/metrics",
                    headers={"Accept": "application/openmetrics-text"},
                ) as answer,
            ):
                metrics = await answer.text()
        batches = api.batches
    spans = collector.of(trace("a"))
    (request,), (commit,), (batch,) = spans["POST /v1/events"], spans["commit"], spans["batch ingest_api"]
    first, second = spans["attempt ingest_api"]
    assert request.parent_span_id.hex() == "a" * 16
    assert [one.parent_span_id for one in (commit, batch)] == [request.span_id] * 2
    assert [one.parent_span_id for one in (first, second)] == [batch.span_id] * 2
    assert [attributes(one)["http.response.status_code"] for one in (request, first, second)] == [
        202,
        503,
        200,
    ]
    assert [one.status.code for one in (first, second, batch)] == [2, 0, 0]
    assert attributes(request)["ingestd.producer"] == "shop"
    assert attributes(batch) | {"ingestd.delivered": 1, "ingestd.attempts": 2} == attributes(batch)
    # the sink is told which attempt it is, and of a trace that is not kept all the same
    sent = [one.headers["traceparent"] for one in batches]
    assert sent[:2] == [f"00-{trace('a')}-{one.span_id.hex()}-01" for one in (first, second)]
    assert re.fullmatch(f"00-{trace('b')}-[0-9a-f]{{16}}-00", sent[2])
    assert collector.of(trace("b")) == {}
    told = b"".join(one.body for one in collector.requests)
    assert not [one for one in (NOTE, SECRET, "CANARY", "shop-token", "i-000001") if one.encode() in told]
    assert {one.headers["authorization"] for one in collector.requests} == {f"Bearer {SECRET}"}
    for name in ("ingestd_attempt_seconds", "ingestd_batch_events", "ingestd_commit_seconds"):
        lines = [line for line in metrics.splitlines() if line.startswith(f"{name}_bucket")]
        assert any(f'trace_id="{trace("a")}"' in line.partition(" # ")[2] for line in lines), lines
    assert 'ingestd_spans_total{result="failed"} 0' in metrics


async def test_what_several_requests_share_has_links_to_those_that_are_kept(tmp_path: Path) -> None:
    async with (
        Collector() as collector,
        EventApi() as api,
        serving(tmp_path, api.url, collector.url, sample=0, propagate=False) as service,
    ):
        parents = [parent("a"), parent("b"), parent("c", sampled=False), None]
        await asyncio.gather(*(post(service, number, one) for number, one in enumerate(parents)))
        await until(lambda: service.pipeline.ledger.delivered == 4, "the events")
        await until(lambda: [one for one in collector.spans if one.name[:5] == "batch"], "their batch")
    batches = [one for one in collector.spans if one.name == "batch ingest_api"]
    linked = {link.trace_id.hex() for batch in batches for link in batch.links}
    parts = {batch.trace_id.hex() for batch in batches} & {trace("a"), trace("b")}
    assert linked | parts == {trace("a"), trace("b")}
    assert all("traceparent" not in one.headers for one in api.batches)


async def test_the_share_decides_where_no_producer_does(tmp_path: Path) -> None:
    async with Collector() as collector, EventApi() as api:
        async with serving(tmp_path, api.url, collector.url, sample=1) as service:
            await post(service, 1, "00-no-traceparent")
            await until(lambda: service.pipeline.ledger.delivered == 1, "the event")
        # what is still open when the process ends is sent, too
        names = {one.name for one in collector.spans}
    assert {"POST /v1/events", "commit", "batch ingest_api", "attempt ingest_api"} <= names


def spans_to(url: str, *, max_queue: int = 512) -> Spans:
    return Spans(
        endpoint=url,
        sample=1.0,
        service_name="x",
        token="",
        ca_file="",
        max_queue=max_queue,
        propagate=True,
        clock=SystemClock(),
        rng=random.Random(1),
    )


async def test_a_collector_that_hangs_costs_spans_and_nothing_else() -> None:
    async with Collector(lambda request: Hang()) as collector:
        spans = spans_to(collector.url)
        for number in range(2_000):
            spans.start("x", []).end()
            spans.remember(1, number, [])
        assert spans.counts == {"exported": 0, "failed": 0, "dropped": 2_000 - 512}
        for number in range(2 * MAX_CHUNKS):
            spans.remember(2, number, [])
        assert len(spans._requests) == MAX_CHUNKS
        await spans.aclose()


async def test_why_traces_do_not_arrive_is_said_once_and_when_they_do_again() -> None:
    said: list[tuple[str, bool]] = []

    def say(words: str, /, *, well: bool, **fields: object) -> None:
        said.append((words, well))

    async with Collector(in_turn(Reply(401), Reply(401), Reply())) as collector:
        spans = spans_to(collector.url)
        for failed in (1, 2):
            spans.start("x", []).end()
            await until(lambda: spans.counts["failed"] == failed, "a failure")  # noqa: B023
            spans.look(say)
        spans.start("x", []).end()
        await until(lambda: spans.counts["exported"] == 1, "a success")
        spans.look(say)
        await spans.aclose()
    assert [well for _, well in said] == [False, True], json.dumps(said)
    assert "401" in said[0][0]


def test_check_tells_whether_traces_can_be_sent(tmp_path: Path) -> None:
    def told(**tracing: Any) -> list[tuple[str, str]]:
        settings = Settings.model_validate({"tracing": tracing})
        return [(str(one.level), one.text) for one in check_tracing(settings)]

    url = "https://traces.example.com/v1/traces"
    assert told() == []
    assert told(endpoint=url) == [("ok", f"traces go to {url}, 10% of those that begin here")]
    for wrong in ("grpc://x:4317", "http://[::1/", "http://127.0.0.1:99999/"):
        ((level, text),) = told(endpoint=wrong)
        assert (level, "is not a URL of http" in text) == ("FAIL", True)
    ((level, text),) = told(endpoint=url, token_file=str(tmp_path / "none"))
    assert (level, "token_file" in text) == ("FAIL", True)
    warned = told(endpoint=url.replace("https", "http"), token="a")
    assert [level for level, _ in warned] == ["ok", "warn"]
