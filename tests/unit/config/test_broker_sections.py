"""[ingest.nats] and [ingest.nats.NAME]."""

from pathlib import Path

import pytest

from ingestd.config import load
from ingestd.core.errors import UserError
from tests.each import each


def loaded(tmp_path: Path, text: str) -> object:
    (tmp_path / "c.toml").write_text(text)
    return load(str(tmp_path / "c.toml"), {}, {}).ingest.nats


def test_one_table_is_a_source_and_so_is_each_table_in_it(tmp_path: Path) -> None:
    one = loaded(tmp_path, '[ingest.nats]\nstream = "S"\nservers = "a:1, tls://b:2"')
    assert list(one) == ["nats"]  # type: ignore[call-overload]
    assert one["nats"].servers == ["nats://a:1", "tls://b:2"]  # type: ignore[index]
    two = loaded(tmp_path, '[ingest.nats.a]\nstream = "S"\n[ingest.nats.b]\nstream = "T"')
    assert [section.stream for section in two.values()] == ["S", "T"]  # type: ignore[attr-defined]


@each(
    "text, words",
    [
        ("", "ingest.nats: stream is missing"),
        ('stream = "S"\nstreem = "T"', "there is no setting ingest.nats.streem; did you mean stream?"),
        ('stream = "a.b"', "ingest.nats.stream: String should match"),
        ('stream = "S"\nservers = ["nats://user:pw@a"]', "a server's address must not hold a user or token"),
        ('stream = "S"\nservers = ["http://a"]', "expected nats://HOST:PORT"),
        ('stream = "S"\nuser = "u"', "user goes with password_file"),
        ('stream = "S"\ncert_file = "c"', "cert_file and key_file go together"),
        ('stream = "S"\nack_wait = "1s"', "ingest.nats.ack_wait: "),
    ],
)
def test_a_mistake_is_told_where_it_stands(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        loaded(tmp_path, f'[ingest.nats]\nconsumer = "c"\n{text}')
    assert words in str(caught.value)
    assert "pw@" not in str(caught.value)


def test_two_sources_do_not_share_a_consumer(tmp_path: Path) -> None:
    text = '[ingest.nats.a]\nstream = "S"\n[ingest.nats.b]\nstream = "S"\n'
    with pytest.raises(
        UserError, match=r"ingest\.nats\.a and ingest\.nats\.b read stream S with the same consumer"
    ):
        loaded(tmp_path, text)
    loaded(tmp_path, text + 'consumer = "other"')


@each(
    "text, words",
    [
        ("", "ingest.kafka: topics is missing"),
        ('topics = "a b"', "ingest.kafka.topics"),
        (
            'topics = "a"\nprotocol = "share"',
            "share groups are not read: after five deliveries a record is gone",
        ),
        ('topics = "a"\nbootstrap_servers = "u:pw@a:1"', "a broker's address must not hold a user"),
        ('topics = "a"\nbootstrap_servers = "a"', "expected HOST:PORT"),
        ('topics = "a"\nuser = "u"', "user goes with password_file"),
        ('topics = "a"\noauth_client_id = "u"', "oauth_client_id and oauth_client_secret_file go together"),
        ('topics = "a"\ncert_file = "c"', "cert_file and key_file go together"),
    ],
)
def test_a_mistake_in_a_topic_is_told_where_it_stands(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        loaded(tmp_path, f'[ingest.kafka]\ngroup = "g"\n{text}')
    assert words in str(caught.value)
    assert "pw@" not in str(caught.value)


def test_two_sources_are_not_members_of_one_group(tmp_path: Path) -> None:
    text = '[ingest.kafka.a]\ntopics = "S"\n[ingest.kafka.b]\ntopics = "T"\n'
    with pytest.raises(UserError, match=r"ingest\.kafka\.a and ingest\.kafka\.b are members of one group"):
        loaded(tmp_path, text)
    loaded(tmp_path, text + 'group = "other"')
