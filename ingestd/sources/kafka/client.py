"""Clients of Kafka, messages of its library, and what errors say. The only module that imports
confluent-kafka."""

import importlib
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import Any, NamedTuple

from ingestd.core import redaction
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.regex import regex
from ingestd.core.text import printable
from ingestd.sources.broker.source import BrokerAway, secret_of
from ingestd.sources.kafka.settings import KafkaConfig

REQUEST_S = 10.0
FATAL, FENCED = -150, 82
"""Codes: _FATAL, FENCED_INSTANCE_ID."""
_NOT_YET, _AGAIN_S = -172, 0.01
"""_STATE: partitions that were given back are still on their way."""
AWAY = (-195, -193, -187)
"""Codes of brokers that are not reached: _TRANSPORT, _RESOLVE, _ALL_BROKERS_DOWN."""
QUEUED_KB = 16 * 1024
"""Of messages that the library fetches ahead."""
_loaded: Any = None
TopicPart = tuple[str, int]
"""Topic and partition."""
NONE = -1
"""As an offset: there is none."""


class Given(NamedTuple):
    """A partition that the group gave to this member. ``identity``: of its topic; ``committed``: the group's
    offset, with its ``note`` and ``epoch``, as in ``Start``; where there is none, ``first`` and ``last`` of
    what the broker has."""

    place: TopicPart
    identity: str
    committed: int
    note: str
    epoch: int | None
    first: int = NONE
    last: int = NONE


class Start(NamedTuple):
    """Where reading goes on: ``offset``; ``epoch``: of the leader that the message before it is from. Of
    what is committed: the ``note`` that goes with it, and the ids of the batches that it names."""

    offset: int
    epoch: int = NONE
    note: str = ""
    announced: Sequence[str] = ()


def library() -> Any:
    """confluent_kafka. Raises UserError where it is not installed."""
    global _loaded
    if _loaded is None:
        try:
            _loaded = importlib.import_module("confluent_kafka")
            importlib.import_module("confluent_kafka.admin")
        except ImportError:
            raise UserError("[ingest.kafka] needs confluent-kafka: pip install 'ingestd[kafka]'") from None
    return _loaded


def to_library(place: TopicPart, start: Start) -> Any:
    more: dict[str, Any] = {"metadata": start.note} if start.note else {}
    if start.epoch >= 0:
        more["leader_epoch"] = start.epoch
    return library().TopicPartition(*place, start.offset, **more)


def read_from(consumer: Any, starts: Iterable[tuple[TopicPart, Start]], clock: Clock, closing: Event) -> None:
    """The partitions are read from there on. Where the epoch is known the brokers are asked first whether the
    log is still that one: the library does so when it seeks, and that it can do a moment later."""
    given = [(start.epoch, to_library(place, start)) for place, start in starts]
    consumer.incremental_assign([at for _, at in given])
    until = clock.monotonic() + REQUEST_S
    for epoch, at in given:
        while epoch >= 0:
            try:
                consumer.seek(at)
                break
            except library().KafkaException as error:
                if code_of(error) != _NOT_YET or clock.monotonic() > until or closing.wait(_AGAIN_S):
                    raise


def make_consumer(settings: dict[str, Any]) -> Any:
    return library().Consumer(settings)


def make_admin(settings: dict[str, Any]) -> Any:
    return library().admin.AdminClient(settings)


def connection_settings(settings: KafkaConfig, on_error: Callable[[Any], None]) -> dict[str, Any]:
    """How the brokers are reached. Reads the files of secrets. Raises UserError."""
    found: dict[str, Any] = {
        "bootstrap.servers": ",".join(settings.bootstrap_servers),
        "client.id": "ingestd",
        "error_cb": on_error,
        "log_level": 0,  # a line for each try to connect; ``on_error`` is called with them
        "reconnect.backoff.max.ms": 5000,
        "socket.connection.setup.timeout.ms": 10_000,
        "allow.auto.create.topics": False,
        "topic.metadata.refresh.interval.ms": 30_000,  # of 300_000: until then nobody reads new partitions
    }
    safe, login = settings.wants_tls, settings.logs_in
    found["security.protocol"] = f"{'SASL_' if login else ''}{'SSL' if safe else 'PLAINTEXT'}"
    files = {"ca": settings.ca_file, "certificate": settings.cert_file, "key": settings.key_file}
    found |= {f"ssl.{what}.location": file for what, file in files.items() if file}
    if settings.user:
        password = secret_of(settings.password.get_secret_value(), settings.password_file, "password")
        found |= {
            "sasl.mechanism": settings.mechanism,
            "sasl.username": settings.user,
            "sasl.password": password,
        }
    elif settings.oauth_token_url:
        secret = secret_of(
            settings.oauth_client_secret.get_secret_value(),
            settings.oauth_client_secret_file,
            "client's secret",
        )
        found |= {
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": settings.oauth_token_url,
            "sasl.oauthbearer.client.id": settings.oauth_client_id,
            "sasl.oauthbearer.client.secret": secret,
            **({"sasl.oauthbearer.scope": settings.oauth_scope} if settings.oauth_scope else {}),
        }
    return found


def member_settings(settings: KafkaConfig, instance: str, longest_pause_s: float) -> dict[str, Any]:
    """How it is a member of its group. ``longest_pause_s``: for which nothing may be asked for, while
    partitions are given back."""
    found: dict[str, Any] = {
        "group.id": settings.group,
        "group.protocol": settings.protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",  # what is lost is counted, and told
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": QUEUED_KB,
        "fetch.queue.backoff.ms": 20,  # a second by default, with that queue full
        "max.poll.interval.ms": int(max(300.0, 2 * longest_pause_s) * 1000),
    }
    if settings.protocol == "classic":
        found["session.timeout.ms"] = int(settings.session_timeout * 1000)
        found["heartbeat.interval.ms"] = min(3000, int(settings.session_timeout * 1000 / 3))
        found["partition.assignment.strategy"] = "cooperative-sticky"
    if settings.static_member:
        found["group.instance.id"] = instance
    return found


_ENDS_AT = regex(r"log truncation detected at .* broker end offset is (\d+) ")
_NO_EPOCH = "No epoch found"


def cut_at(error: Any, offset: int | None) -> int | None:
    """Where a log ends under the leader that wrote the last message before what was asked for, or under those
    before it: what is there since came under later ones. ``NONE``: the brokers know no leader of that epoch.
    None: the error says nothing of it. The library has it in the text alone; 0 where that is another one."""
    text = str(error.str())
    if _NO_EPOCH in text:
        return NONE
    if found := _ENDS_AT.search(text):
        return int(found[1])
    return 0 if offset is None else None


_HOW_LONG = regex(r" \(after \d+ms in state .*\)$")
"""At the end of an error of a connection; with it the same error would be another one at each try."""


def words_of(error: Any) -> str:
    """Of a KafkaError, or of an exception that holds one."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    text = str(inner.str()) if hasattr(inner, "str") else str(inner)
    text = _HOW_LONG.sub("", text.replace("Local: ", "").replace("Broker: ", ""))
    return printable(redaction.redact(text)) or "no answer"


def code_of(error: Any) -> int:
    """0: it has none."""
    inner = error.args[0] if isinstance(error, Exception) and error.args else error
    return int(inner.code()) if hasattr(inner, "code") else 0


def ending_of(error: Exception, settings: KafkaConfig) -> UserError:
    if code_of(error) == FENCED or (code_of(error) == FATAL and "fenced" in words_of(error)):
        return UserError(
            f"another process is the same member of group {settings.group}: it has a copy of this state"
            " directory; give each process a directory of its own"
        )
    if "instance ID is still used" in words_of(error):  # UNRELEASED_INSTANCE_ID, of KIP-848 only
        return BrokerAway(
            f"group {settings.group} at {settings.shown}: this member's id belongs to another process: one"
            " that was killed has it until its session is over, one with a copy of this state directory"
            " while it runs"
        )
    return BrokerAway(f"group {settings.group} at {settings.shown}: {words_of(error)}")
