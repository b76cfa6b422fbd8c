"""What the tests of the control plane's commands share: a sandbox that is a process, and commands sent to it.

Most commands run within the test's process; what has to be killed, or starts from a shell, is one too.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine import patience
from tests.process.cli.support import Finished, invoke

CANARY = "CANARY-of-the-hook"
BUS = "arn:aws:events:us-east-1:123456789012:event-bus/aws.partner/genesys.com/cloud/org-1/orders"
TABLES: dict[str, dict[str, Any]] = {
    "target": {"endpoint_url": "http://127.0.0.1:9/hooks/orders", "event_types": ["order.created"]},
    "destination": {"event_bus_arn": BUS, "event_types": ["order.created", "order.paid"]},
    "subscription": {
        "topic_arn": "arn:aws:events:us-east-1:123456789012:topic/genesys-cx-events",
        "filter_policy": {"eventType": ["routing.contact.queued"], "priority": [{"numeric": [">", 3]}]},
        "role_arn": "arn:aws:iam::123456789012:role/service/genesys+events",
    },
    "integration": {
        "aws_account_id": "123456789012",
        "aws_region": "us-west-2",
        "suffix": "orders",
        "event_filter": ["v2.detail.events.conversation.{id}.acd.start"],
    },
    "trigger": {
        "topic_name": "v2.detail.events.conversation.{id}.customer.end",
        "workflow_id": "ae1e0cde-875d-4d13-a498-615e7a9fe956",
        "match_criteria": [{"json_path": "mediaType", "operator": "Equal", "value": "CHAT"}],
    },
    "webhook": {"properties": {"invocationRatePerMinute": 200}, "notes": "ours"},
    "scheduled_trigger": {"workflow_id": "ae1e0cde-875d-4d13-a498-615e7a9fe956", "hours": "8,20"},
    "presence_source": {"description": "The old exchange"},
    "journey_schema": {"properties": {"page": {"type": "string"}}, "required": ["page"]},
    "journey_configuration": {"source": "CRM", "schema_id": "s-1", "division_id": "d-1"},
}


class Plane:
    """A sandbox, and commands that are sent to it from a directory of their own."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory
        self.file = directory / "control.toml"
        self.said: list[str] = []

    def __call__(self, *words: str, given: str = "", sandbox: bool = True) -> Finished:
        """A command as ``main`` runs it."""
        where = ("--sandbox", "--api", self.url, "--state-dir", str(self.state)) if sandbox else ()
        done = invoke([*words, *where], given=given)
        self.said += [done.out, done.err]
        return done

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def write(self, text: str) -> str:
        self.file.write_text(text, encoding="utf-8")
        return str(self.file)

    def ask(self, path: str, content: object = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        with urllib.request.urlopen(f"{self.url}/_sandbox/{path}", data=data, timeout=patience(10)) as answer:
            return json.load(answer)

    def there(self, plural: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("control")[plural]
        return found

    def audit(self) -> list[dict[str, Any]]:
        lines = (self.state / "audit.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def sandbox_url() -> Iterator[str]:
    command = [sys.executable, "-m", "ingestd", "sandbox", "--port", "0", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().split()[2]
        process.terminate()


@pytest.fixture
def plane(sandbox_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plane:
    for name in [name for name in os.environ if name.startswith(("INGESTD_", "GENESYS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOOK_PASSWORD", CANARY)
    made = Plane(sandbox_url, tmp_path)
    made.ask("faults", [])
    made.ask("reset", {})
    return made


def declare(table: dict[str, Any], *, name: str, kind: str) -> str:
    """A file of resources, in JSON, which is one of its spellings."""
    return json.dumps({kind: {name: table}})


def as_words(table: dict[str, Any]) -> list[str]:
    return [word for name, value in table.items() for word in ("--set", f"{name}={json.dumps(value)}")]
