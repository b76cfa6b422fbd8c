"""A real Prometheus beside a real service: it scrapes it, and the alerts and panels of deploy/ work."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.event_api import INVALID, EventApi, events
from tests.machine import patience
from tests.process.cli.run_support import post, serve
from tests.process.cli.support import Place, until
from tests.process.deploy.support import DEPLOY, alerts, queries, tool, yaml
from tests.receiver import Reply

DEADLINE_S = patience(60.0)
pytestmark = pytest.mark.anyio


class Prometheus:
    """What a running one knows. ``client`` asks its HTTP API."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def _get(self, path: str, **parameters: str) -> Any:
        answer = await self._client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of each series."""
        found = (await self._get("/api/v1/query", query=expression))["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    async def rules(self) -> dict[str, dict[str, Any]]:
        """Name -> rule, with its health, its state and its last error."""
        groups = (await self._get("/api/v1/rules"))["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    async def until(self, expression: str, condition: Callable[[float], bool]) -> None:
        """A series of ``expression`` is so."""

        async def look() -> tuple[bool, object]:
            found = await self.query(expression)
            return any(condition(value) for _, value in found), found

        await _wait_for(look, expression)

    async def until_rules(self, condition: Callable[[dict[str, tuple[str, str]]], bool]) -> None:
        """Their (health, state) by name are so. Before the first scrape IngestdDown pends."""

        async def look() -> tuple[bool, object]:
            states = {name: (rule["health"], rule["state"]) for name, rule in (await self.rules()).items()}
            return condition(states), states

        await _wait_for(look, "the alerts")


async def _wait_for(look: Callable[[], Awaitable[tuple[bool, object]]], what: str) -> None:
    """Until ``look`` gives True; what it saw last is the failure."""
    seen: object = None
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                well, seen = await look()
                if well:
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{what}: {seen}") from None


def configuration(admin_port: int) -> dict[str, Any]:
    """That of deploy/ with the address of this service, twice a second. JSON is YAML, too."""
    config: dict[str, Any] = copy.deepcopy(yaml("prometheus/prometheus.yml"))
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
    [job] = [job for job in config["scrape_configs"] if job["job_name"] == "ingestd"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{admin_port}"]}]
    config["scrape_configs"] = [job]
    return config


@asynccontextmanager
async def prometheus(directory: Path, admin_port: int) -> AsyncIterator[Prometheus]:
    """On a port of its own choice; on leaving it is over."""
    binary = tool("prometheus", package="apt-get install prometheus")
    file, log = directory / "prometheus.json", directory / "prometheus.log"
    file.write_text(json.dumps(configuration(admin_port)), encoding="utf-8")
    with log.open("wb") as stderr:  # a pipe would fill
        process = await asyncio.create_subprocess_exec(
            *(binary, f"--config.file={file}", f"--storage.tsdb.path={directory / 'tsdb'}"),
            *("--web.listen-address=127.0.0.1:0", "--log.format=json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        await until(lambda: process.returncode is not None or "Server is ready" in log.read_text())
        assert process.returncode is None, log.read_text()
        async with httpx.AsyncClient(
            timeout=patience(30), base_url=f"http://{_address(log)}", trust_env=False, verify=False
        ) as client:
            yield Prometheus(client)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _address(log: Path) -> str:
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return str(next(one["address"] for one in entries if one.get("msg", "").startswith("Listening on")))


NEEDS_TROUBLE = {"Restarts", "Alerts"}
NEEDS_A_LAKE = {"Files", "Waiting for the lake", "Oldest waiting for the lake", "Events waiting for the lake"}
NEEDS_A_BROKER = {"Messages of brokers", "Oldest message", "Lag of sources", "Connected"}
NEEDS_FILES = {"Unread bytes of files", "Files", "Files done and truncated"}
NEEDS_A_CLUSTER = {
    "Events through a shared spool",
    "Lag of shares",
    "Oldest chunk of a share",
    "Shares and workers",
}
"""Panels that are empty while all goes well."""


async def empty_panels(it: Prometheus) -> set[str]:
    shown, asked = set[str](), set[str]()
    for panel, query in queries():
        if not query.startswith("label_values("):  # Grafana's own
            asked.add(panel)
            if await it.query(
                query.replace("$__rate_interval", "10s").replace("$instance", ".*").replace("$sink", ".*")
            ):
                shown.add(panel)
    return asked - shown


async def test_a_real_prometheus_scrapes_the_service_and_every_alert_and_panel_works(place: Place) -> None:
    api = EventApi()
    async with api, serve(place, api) as service:
        assert (await post(service.ingest_port, [*events(20), INVALID])).status == 202
        async with prometheus(place.directory, service.admin_port) as it:
            await it.until('up{job="ingestd"}', lambda value: value == 1)
            await it.until('ingestd_events_total{outcome="delivered"}', lambda value: value == 20)
            await it.until_rules(lambda states: set(states.values()) == {("ok", "inactive")})
            assert (await it.rules()).keys() == alerts().keys()
            await it.until("rate(ingestd_accepted_events_total[10s])", lambda value: value >= 0)
            assert await empty_panels(it) == NEEDS_TROUBLE.union(
                NEEDS_A_LAKE, NEEDS_A_BROKER, NEEDS_FILES, NEEDS_A_CLUSTER
            )
        await service.stop()


async def test_alerts_notice_an_api_that_is_down_and_a_service_that_is_gone(place: Place) -> None:
    api = EventApi(lambda request: Reply(503))
    env = {"INGESTD_DELIVERY_CIRCUIT_THRESHOLD": "2", "INGESTD_BATCH_MAX_EVENTS": "5"}
    async with api, serve(place, api, env=env) as service:
        assert (await post(service.ingest_port, events(20))).status == 202
        async with prometheus(place.directory, service.admin_port) as it:
            api_down = {"IngestdCircuitOpen": ("ok", "pending"), "IngestdDown": ("ok", "inactive")}
            await it.until_rules(lambda states: api_down.items() <= states.items())
            await service.kill()
            await it.until_rules(lambda states: states["IngestdDown"] == ("ok", "pending"))
