"""The table ``[ingest.kafka]``, or ``[ingest.kafka.NAME]``: topics of Kafka, and how they are read."""

from typing import Annotated, Literal

from ingestd.core.regex import regex
from ingestd.core.section import Section
from ingestd.core.setting_types import (
    NOTHING,
    After,
    Before,
    Matching,
    Seconds,
    Secret,
    SecretFile,
    as_list,
    field,
)
from ingestd.sources.broker import MessageFormat

_SERVER = regex(r"[^\s/@?#,]+:\d{1,5}")


def _server(text: str) -> str:
    if "@" in text:
        raise ValueError("a broker's address must not hold a user: set user and password_file")
    if not _SERVER.fullmatch(text):
        raise ValueError("expected HOST:PORT")
    return text


def _no_share_group(value: object) -> object:
    if value == "share":
        raise ValueError(
            "share groups are not read: after five deliveries a record is gone without a word, and there is"
            " no order; take classic or consumer"
        )
    return value


Broker = Annotated[str, After(_server)]
KafkaTopic = Annotated[str, Matching(r"^[A-Za-z0-9._-]{1,249}$")]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class KafkaConfig(Section):
    """Topics of Kafka that are read (``pip install ingestd[kafka]``)."""

    bootstrap_servers: Annotated[list[Broker], Before(as_list)] = field(
        ["127.0.0.1:9092"],
        min_length=1,
        max_length=100,
        description="brokers to ask for the others, HOST:PORT",
    )
    topics: Annotated[list[KafkaTopic], Before(as_list)] = field(
        [], max_length=100, description="names of the topics to read; needed"
    )
    group: str = field(
        "ingestd", min_length=1, max_length=255, description="consumer group, in which offsets are committed"
    )
    protocol: Annotated[Literal["classic", "consumer"], Before(_no_share_group)] = field(
        "classic", description="how the group deals out partitions: classic, or consumer (KIP-848)"
    )
    static_member: bool = field(
        True, description="a restart within session_timeout keeps its partitions; false: it leaves the group"
    )
    session_timeout: Seconds = field(
        45.0,
        ge=1,
        le=1800,
        description="time after which a member that is dead loses its partitions (classic)",
    )
    start: Literal["all", "new"] = field(
        "all",
        description="where a group without an offset begins: all: what is there, too; new: what comes then",
    )
    format: MessageFormat = field(
        "event", description="what a message holds: event, ndjson, array, cloudevents"
    )
    tombstones: Literal["reject", "skip"] = field(
        "reject",
        description="a message without a value: reject: a dead letter; skip: passed over, and counted",
    )
    exact_takeover: bool = field(
        True,
        description="a batch is of one partition, and named with its offset before it is sent, so that the"
        " partition's next owner repeats it; false: fuller batches, and a take-over may deliver twice",
    )
    spool: bool = field(
        False, description="commit what is in the spool; false: what is delivered, or a dead letter"
    )
    tls: bool = field(False, description="connect over TLS")
    ca_file: str = field("", description="PEM file of authorities to trust, instead of the usual ones; TLS")
    cert_file: str = field("", description="PEM file of the client's certificate, then its chain; TLS")
    key_file: SecretFile = field("", description="PEM file of its private key, without a passphrase")
    mechanism: Mechanism = field("SCRAM-SHA-512", description="mechanism of SASL, for user and password_file")
    user: str = field("", description="user name; with password_file")
    password: Secret = field(NOTHING, description="password; better: password_file")
    password_file: SecretFile = field("", description="a file that holds the password and nothing else")
    oauth_token_url: str = field(
        "", pattern=r"^(https?://[^\s@?#]+)?$", description="SASL OAUTHBEARER: where tokens are got"
    )
    oauth_client_id: str = field("", description="client id at oauth_token_url")
    oauth_client_secret: Secret = field(NOTHING, description="its secret; better: oauth_client_secret_file")
    oauth_client_secret_file: SecretFile = field("", description="a file that holds the client's secret only")
    oauth_scope: str = field("", description="scope that a token is asked for")

    @property
    def wants_tls(self) -> bool:
        return bool(self.tls or self.ca_file or self.cert_file)

    @property
    def shown(self) -> str:
        return ", ".join(self.bootstrap_servers)

    @property
    def logs_in(self) -> bool:
        return bool(self.user or self.oauth_token_url)

    @property
    def chunk_bytes(self) -> int:
        """Of payloads, that a chunk has at most: as much as one of a file, or as one of the spool."""
        return (256 if self.spool else 1024) * 1024

    def _check(self) -> None:
        if not self.topics:
            raise ValueError("topics is missing: the names of the topics to read")
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together")
        if bool(self.user) != bool(self.password.get_secret_value() or self.password_file):
            raise ValueError("user goes with password_file (or password)")
        secret = self.oauth_client_secret.get_secret_value() or self.oauth_client_secret_file
        if len({bool(self.oauth_token_url), bool(self.oauth_client_id), bool(secret)}) > 1:
            raise ValueError("oauth_token_url, oauth_client_id and oauth_client_secret_file go together")
