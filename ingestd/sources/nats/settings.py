"""The table ``[ingest.nats]``, or ``[ingest.nats.NAME]``: a stream of JetStream, and how it is read."""

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

_SERVER = regex(r"(nats|tls|ws|wss)://[^\s/@?#]+/?")


def _server(text: str) -> str:
    if "@" in text:
        raise ValueError(
            "a server's address must not hold a user or token: set user and password_file, or token_file"
        )
    if "://" not in text:
        text = f"nats://{text}"
    if not _SERVER.fullmatch(text):
        raise ValueError("expected nats://HOST:PORT, or tls://HOST:PORT")
    return text


NatsServerUrl = Annotated[str, After(_server)]
JetStreamName = Annotated[str, Matching(r"^[^\s.*>/\\]{1,255}$")]
Subject = Annotated[str, Matching(r"^[^\s]{1,255}$")]


class NatsLogin(Section):
    """Where NATS is, and how to log in there: of a source, and of the spool."""

    servers: Annotated[list[NatsServerUrl], Before(as_list)] = field(
        ["nats://127.0.0.1:4222"], min_length=1, max_length=100, description="nats:// or tls://, HOST:PORT"
    )
    domain: str = field("", pattern=r"^[^\s.*>]*$", description="JetStream domain, behind a leaf node")
    user: str = field("", description="user name; with password_file")
    password: Secret = field(NOTHING, description="password; better: password_file")
    password_file: SecretFile = field("", description="a file that holds the password and nothing else")
    token: Secret = field(NOTHING, description="token; better: token_file")
    token_file: SecretFile = field("", description="a file that holds the token and nothing else")
    creds_file: SecretFile = field("", description="credentials file of nsc: a user's JWT and nkey")
    nkey_file: SecretFile = field("", description="a file that holds the nkey's seed, which begins with SU")
    ca_file: str = field("", description="PEM file of authorities to trust, instead of the usual ones; TLS")
    cert_file: str = field("", description="PEM file of the client's certificate, then its chain; TLS")
    key_file: SecretFile = field("", description="PEM file of its private key, without a passphrase")

    @property
    def wants_tls(self) -> bool:
        """A connection without TLS is refused."""
        return bool(self.ca_file or self.cert_file) or any(
            server.startswith(("tls://", "wss://")) for server in self.servers
        )

    def check_login(self) -> None:
        """Raises ValueError for what does not go together."""
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file go together")
        password = bool(self.password.get_secret_value() or self.password_file)
        if bool(self.user) != password:
            raise ValueError("user goes with password_file (or password)")

    @property
    def logins(self) -> list[str]:
        """The ways to log in that are given; the first one is used."""
        ways = {
            "creds_file": bool(self.creds_file),
            "nkey_file": bool(self.nkey_file),
            "user": bool(self.user),
            "token": bool(self.token.get_secret_value() or self.token_file),
        }
        return [way for way, is_given in ways.items() if is_given]


class NatsConfig(NatsLogin):
    """A stream of NATS JetStream that is read (``pip install ingestd[nats]``)."""

    stream: str = field(
        "", pattern=r"^[^\s.*>/\\]{0,255}$", description="name of the JetStream stream; needed"
    )
    consumer: JetStreamName = field(
        "ingestd", description="durable pull consumer; created if it does not exist, never changed"
    )
    subjects: Annotated[list[Subject], Before(as_list)] = field(
        [], max_length=100, description="for a new consumer: subjects to read; empty: all of the stream"
    )
    start: Literal["all", "new"] = field(
        "all", description="for a new consumer: all: what is there, too; new: what comes then"
    )
    format: MessageFormat = field(
        "event", description="what a message holds: event, ndjson, array, cloudevents"
    )
    spool: bool = field(
        False, description="acknowledge what is in the spool; false: what is delivered, or a dead letter"
    )
    ack_wait: Seconds = field(
        60.0, ge=2, le=86400, description="for a new consumer: time after which a message is given again"
    )
    max_unacked: int = field(
        50_000, ge=1, le=1_000_000, description="for a new consumer: most messages that are not acknowledged"
    )

    def _check(self) -> None:
        if not self.stream:
            raise ValueError("stream is missing: the name of the stream to read")
        self.check_login()
