"""What tests of topics need."""

from pathlib import Path
from typing import Any

from ingestd.config import Settings
from tests.kafka_server import KafkaServer, Topic, kafka_server, topic
from tests.process.sources.support import IN_TURN, Running, letters, places, running, until
from tests.process.sources.support import settings as settings_of

__all__ = [
    "IN_TURN",
    "KafkaServer",
    "Running",
    "Topic",
    "kafka_server",
    "letters",
    "places",
    "running",
    "settings",
    "topic",
    "until",
]


def settings(
    directory: Path, api: str, made: Topic, source: dict[str, Any] | None = None, **more: Any
) -> Settings:
    """``source``: more of the table [ingest.kafka]. A group of its own for each topic."""
    table = {"bootstrap_servers": made.bootstrap, "topics": made.name, "group": made.name, **(source or {})}
    return settings_of(directory, api, table, kind="kafka", **more)
