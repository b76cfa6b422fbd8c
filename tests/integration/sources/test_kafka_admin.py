"""Whether bootstrap servers lead to one cluster: asked before anything is read, if not known of late."""

import pytest

from ingestd.sources.kafka.admin import Admin
from ingestd.sources.kafka.settings import KafkaConfig
from tests.scripted_kafka import ScriptedKafka

SERVERS = ["a:1", "b:2", "c:3"]


def looked(kafka: ScriptedKafka) -> list[str]:
    found, kafka.looked = sorted(kafka.looked), []
    return found


def test_a_server_that_said_a_while_ago_whose_it_is_may_be_down(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = ScriptedKafka(t=1).install(monkeypatch)
    kafka.clusters = {"a:1": "one", "b:2": "one"}
    admin = Admin(KafkaConfig.model_validate({"bootstrap_servers": SERVERS, "topics": "t"}))
    assert admin.several_clusters(1_000.0) == ""
    assert looked(kafka) == SERVERS
    del kafka.clusters["b:2"]
    assert admin.several_clusters(1_500.0) == ""
    assert looked(kafka) == ["c:3"]  # which has not said it yet
    kafka.clusters |= {"b:2": "two", "c:3": "one"}
    assert admin.several_clusters(1_550.0) == ""
    assert looked(kafka) == ["c:3"]
    said = admin.several_clusters(1_700.0)  # too long ago now, but for the last
    assert said.startswith("bootstrap_servers lead to 2 clusters (a:1, c:3 to one; b:2 to two)")
    assert looked(kafka) == ["a:1", "b:2"]
    kafka.clusters["b:2"] = "one"
    assert admin.several_clusters(1_701.0) == ""
    assert looked(kafka) == SERVERS  # nothing that was said before is believed


def test_one_server_alone_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = ScriptedKafka(t=1).install(monkeypatch)
    admin = Admin(KafkaConfig.model_validate({"bootstrap_servers": ["a:1"], "topics": "t"}))
    assert (admin.several_clusters(0.0), looked(kafka)) == ("", [])
