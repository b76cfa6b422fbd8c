"""The recipe of docs/: its file, with a real broker and the sandbox in place of what it names."""

import json
import re
from pathlib import Path

import pytest

from ingestd.config import load
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.server import Running, Sandbox
from tests.docs.pages import page
from tests.process.sources.kafka.support import KafkaServer, Topic, running, topic

pytestmark = pytest.mark.anyio
OF_THE_BROKER = r"^(tls|mechanism|user|password_file) = .*\n|^region = .*\n|^client_\w+_file = .*\n"


async def test_the_file_of_the_recipe_takes_a_topic_to_genesys_cloud(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    made = topic(shared_kafka)
    actions = ("QUEUE", "ANSWER", "DISCONNECT")
    for number, action in enumerate((*actions, "ANSWER")):
        event = {
            "eventType": f"routing.interaction.{action.lower()}",
            "eventTime": f"2026-01-01T10:0{number % 3}:00Z",
            "interactionId": "int-001",
            "routingMetadata": {
                "queueId": "7a9c3f60-1d2e-4b7a-8f3e-2a6b1c9d0e11",
                "skill": "support",
                "actionType": action,
            },
            "schemaVersion": 2,
        }
        made.produce(
            json.dumps(event | ({"eventTime": "2026-01-01T10:01:00Z"} if number == 3 else {})).encode()
        )
    async with Sandbox(SandboxOptions()).serve() as api:
        (tmp_path / "ingestd.toml").write_text(_local(tmp_path, api, made))
        settings = load(
            str(tmp_path / "ingestd.toml"),
            {},
            {"INGESTD_INGEST_LISTEN": "127.0.0.1:0", "INGESTD_ADMIN_LISTEN": "127.0.0.1:0"},
        )
        async with running(settings) as service:
            await service.settled(4)
            await made.settled(4, made.name)
            assert (service.ledger["delivered"], service.ledger["duplicate"]) == (3, 1)
        kept = [json.loads(one) for one in api.sandbox.kept("/api/v2/events/conversations")]
    assert [one["sourceConfiguration"]["interactionId"] for one in kept[:1]] == ["int-001"]
    assert len({one["conversationId"] for one in kept}) == 1
    assert kept[-1]["disconnectType"] == "System"


def _local(directory: Path, api: Running, made: Topic) -> str:
    """The recipe's file with what stands for its broker, its API and its folder."""
    text = re.sub(
        OF_THE_BROKER, "", page("docs/recipes/kafka-to-genesys.md").block("toml"), flags=re.MULTILINE
    )
    login = {"url": api.url, "token_url": api.token_url, "client_id": "sandbox", "client_secret": "sandbox"}
    text = text.replace(
        "[api]", "\n".join(["[api]", *(f'{name} = "{value}"' for name, value in login.items())])
    )
    text = re.sub(r"bootstrap_servers = .*", f'bootstrap_servers = ["{made.bootstrap}"]', text)
    text = text.replace('"interactions"', f'"{made.name}"').replace("ingestd-genesys", made.name)
    return text.replace("/var/lib/ingestd", str(directory / "state"))
