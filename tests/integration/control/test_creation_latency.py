"""Fault 54 of the tutorial on topic subscriptions: its latency has all waits between the tries in it."""

import json
from pathlib import Path

import pytest

from ingestd.app.control.session import open_control
from ingestd.config import Login, Settings
from ingestd.control.subscription.subscription import PATH, SubscriptionKind
from ingestd.core.clock import SystemClock
from ingestd.sandbox.faults import parse_script
from ingestd.sandbox.server import Sandbox

pytestmark = pytest.mark.anyio

TABLE = {
    "topic_arn": "arn:aws:events:us-east-1:123456789012:topic/cx",
    "filter_policy": {"a": ["b"]},
    "role_arn": "arn:aws:iam::123456789012:role/cx",
}


class OwnClock(SystemClock):
    """Its time goes on only where somebody sleeps."""

    slept = 0.0

    def monotonic(self) -> float:  # type: ignore[override]
        return self.slept

    async def sleep(self, seconds: float) -> None:  # type: ignore[override]
        self.slept += seconds


async def test_the_latency_of_a_create_is_that_of_the_request_that_was_taken(tmp_path: Path) -> None:
    kind = SubscriptionKind()
    clock = OwnClock()
    answer = {"status": 429, "headers": {"Retry-After": "60"}}
    rules = parse_script(json.dumps([{"match": {"path": PATH, "nth": 1}, "answer": answer}]).encode())
    sandbox = Sandbox()
    sandbox.set_faults((), rules)
    async with sandbox.serve() as running:
        login = Login(
            api=running.url, token_url=running.token_url, client_id="sandbox", client_secret="sandbox"
        )
        async with open_control(
            Settings(), login, tmp_path, deadline_s=10, allow_private=True, clock=clock
        ) as control:
            await kind.create(control.context, kind.parse("cx", TABLE), {})
            assert sum(sandbox.api.counts.faults.values()) == 1, "refused once"
            assert clock.slept >= 60.0
    [line] = [
        line
        for line in map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
        if "SUBSCRIPTION_CREATED" in line.values()
    ]
    assert 0 < line["latency_ms"] < 60_000
    assert line["status"] == "ACTIVE"
