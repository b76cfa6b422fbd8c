"""A replay inside the test's own process, for each type of sink; see ``test_sinks.py``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingestd.app.replay import open_replay, run
from ingestd.app.replay_report import make_report
from ingestd.config import Login, Settings
from ingestd.core.setting_types import SecretStr
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.faults import parse_faults
from ingestd.sandbox.server import Running
from ingestd.sandbox.stats import PathStats
from tests.event_api import assert_balanced, write
from tests.process.cli.support import Place

QUICK = {
    "delivery": {
        "backoff_base": 0.002,
        "backoff_cap": 0.02,
        "min_retries_per_second": 1000.0,
        "max_in_flight": 4,
    },
    "batch": {"max_events": 10, "max_age": 0.02},
}
"""Retries that nobody has to wait for."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a replay ended. ``letters``: rows of the store."""

    report: dict[str, Any]
    letters: list[dict[str, Any]]
    warnings: list[str]

    @property
    def refused(self) -> list[bytes]:
        """The payloads of dead letters."""
        return [letter["payload"] for letter in self.letters]


def options(*faults: str, **more: Any) -> SandboxOptions:
    """A sandbox that takes any event and has these faults."""
    return SandboxOptions(schema=None, faults=parse_faults(faults), seed=7, **more)


def login(sandbox: Running) -> Login:
    return Login(
        api=sandbox.url, token_url=sandbox.token_url, client_id="sandbox", client_secret=SecretStr("sandbox")
    )


def any_json(place: Place) -> dict[str, str]:
    """A schema that takes every object; its ``id``, or ``eventId``, is the key."""
    path = place / "any.json"
    path.write_text('{"type": "object"}')
    return {"name": str(path)}


async def replay(
    place: Place,
    events: Sequence[bytes],
    sinks: Mapping[str, Mapping[str, Any]],
    *,
    to: Login | None = None,
    schema: Mapping[str, str] | None = None,
    **sections: Mapping[str, Any],
) -> Done:
    """Send ``events`` to ``sinks``; the ledgers balance in the end."""
    write(place / "events.ndjson", events)
    given: dict[str, Any] = {name: {**values, **sections.pop(name, {})} for name, values in QUICK.items()}
    given |= {"state": {"dir": str(place.state)}, "schema": schema or {"name": "interaction"}, "sinks": sinks}
    settings = Settings.model_validate(given | sections)
    warnings: list[str] = []
    async with open_replay(settings, to, [str(place / "events.ndjson")], warn=warnings.append) as opened:
        await run(opened, warn=warnings.append)
        report = make_report(opened)
    assert_balanced({**report, "accepted": report["accepted"] - report["unmatched"]})
    for ledger in report["sinks"].values():
        assert ledger["routed"] == ledger["delivered"] + ledger["dead_lettered"] + ledger["in_flight"], ledger
    return Done(report, place.letters(), warnings)


def assert_once(stats: PathStats, count: int) -> None:
    """``count`` events were taken, none of them twice."""
    assert (stats.events, stats.distinct, stats.duplicates) == (count, count, 0), stats
    assert stats.distinct_complete


# --- events ---


def cloudevent(number: int, **more: Any) -> bytes:
    """In a spelling that no serialiser of ours would choose."""
    fields = json.dumps(more)[1:-1]
    return (
        f'{{ "specversion":"1.0","id":"e-{number:04}", "source":"/shop","type":"order.created",'
        f'"data":{{"n":{number}, "price":1.50,"caf\\u00e9":null}}{"," + fields if fields else ""} }}'
    ).encode()


def uuid(kind: int, number: int) -> str:
    return f"{kind:08x}-0000-4000-8000-{number:012x}"


def answered(number: int, *, conversation: int) -> bytes:
    """An entry for ``conversations``; of one conversation, the later number has the later time."""
    entry = {
        "eventId": uuid(1, number),
        "eventDateTime": f"2026-01-01T10:{number // 60:02}:{number % 60:02}.000Z",
        "conversationId": uuid(2, conversation),
        "communicationId": uuid(3, conversation),
    }
    return json.dumps({"communicationAnsweredEvents": entry}).encode()


def presence(number: int) -> bytes:
    return json.dumps(
        {
            "eventId": uuid(4, number),
            "eventDateTime": f"2026-01-01T10:{number // 60:02}:{number % 60:02}.000Z",
            "userId": uuid(5, number % 7),
            "presenceDefinitionId": uuid(6, 1),
            "sourceId": uuid(10, 1),
        }
    ).encode()


def routing_status(number: int) -> bytes:
    return json.dumps(
        {
            "eventId": uuid(7, number),
            "eventDateTime": f"2026-01-01T10:{number // 60:02}:{number % 60:02}.000Z",
            "agentId": uuid(8, number % 7),
            "status": "Idle",
            "sourceId": "pbx",
        }
    ).encode()


def journey(number: int) -> bytes:
    return json.dumps(
        {
            "id": f"j-{number}",
            "dateCreated": "2026-01-01T10:00:00Z",
            "identifiers": {"externalIds": [{"value": f"v{number}", "externalSourceId": "crm"}]},
            "attributes": {"n": number},
        }
    ).encode()
