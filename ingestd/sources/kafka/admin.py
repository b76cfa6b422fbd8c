"""What the brokers are asked beside reading."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.kafka import client
from ingestd.sources.kafka.assignment import places_of
from ingestd.sources.kafka.client import REQUEST_S, TopicPart
from ingestd.sources.kafka.settings import KafkaConfig

_LEADERS_S = 5.0
_ASKED_AT_ONCE = 8
_LEADS_S, _LED_FOR_S = 2.0, 600.0
"""So long a bootstrap server may take to say whose it is, and so long that is believed without asking."""


_NOTHING: Mapping[str, str] = {}


class Admin:
    """What brokers are asked beside reading. Its methods block. Raises UserError where the library is not
    installed, or a file of a secret cannot be read."""

    def __init__(self, settings: KafkaConfig) -> None:
        self.error = ""
        self.unreached = ""
        """Why no broker answers, when ``offsets`` were asked for last; empty: one does."""
        self.client = client.make_admin(client.connection_settings(settings, self._on_error))
        self._settings = settings
        self._led: dict[str, tuple[str, float]] = {}

    def _on_error(self, error: Any) -> None:
        if not self.error or error.code() not in client.AWAY:  # that all are down says less than why
            self.error = client.words_of(error)

    def away(self, error: Exception) -> BrokerAway:
        """With the reason, as a wrong password: the library has it in a queue, which would grow, too."""
        self.error = ""
        self.client.poll(0)
        why = self.error or client.words_of(error)
        return BrokerAway(f"cannot connect to Kafka at {self._settings.shown}: {why}")

    def cluster(self) -> str:
        """Its id. Raises BrokerAway where brokers, or a topic that is to be read, are not there."""
        found = self.cluster_id()
        try:
            self.topics()
        except BrokerAway:
            raise
        except Exception as error:  # the library's own, and time-outs of its futures
            raise self.away(error) from None
        return found

    def cluster_id(self, within_s: float = REQUEST_S) -> str:
        """Raises BrokerAway."""
        try:
            found = self.client.describe_cluster(request_timeout=within_s).result(2 * within_s)
        except Exception as error:
            raise self.away(error) from None
        return str(found.cluster_id)

    def several_clusters(self, now: float) -> str:
        """Why nothing can be read, if bootstrap servers lead to several; else empty. ``now``: monotonic; a
        server that said a while ago whose it is may be down meanwhile, and is not waited for. UserError."""
        known = {server: cluster for server, (cluster, at) in self._led.items() if now - at < _LED_FOR_S}
        led = where_they_lead(self._settings, _LEADS_S, known)
        if led.words:
            self._led.clear()
            return f"{led.words}: nothing is read, for which of them it is would be chance"
        for cluster, servers in led.clusters.items():
            self._led.update((server, (cluster, now)) for server in servers if server not in known)
        return ""

    def topics(self) -> dict[str, Any]:
        """Descriptions, by name. Raises BrokerAway for a topic that is not there, KafkaException."""
        lib = client.library()
        names = lib.TopicCollection(self._settings.topics)
        found: dict[str, Any] = {}
        for name, answer in self.client.describe_topics(names, request_timeout=REQUEST_S).items():
            try:
                found[name] = answer.result(2 * REQUEST_S)
            except lib.KafkaException as error:
                if client.code_of(error) == lib.KafkaError.UNKNOWN_TOPIC_OR_PART:
                    gone = f"there is no topic {name} at {self._settings.shown}: make it, nobody else does"
                    raise BrokerAway(gone) from None
                raise
        return found

    def classic_group(self) -> Any:
        """State and members of the group (``GroupMetadata``), if it is a classic one. None: the brokers do
        not say. Raises KafkaException.

        Not by ``describe_consumer_groups``, nor by any other call that goes to the group's coordinator: with
        librdkafka 2.16.0 one that waits while the coordinator comes back ends the process (SIGABRT).
        """
        group = self._settings.group
        with warnings.catch_warnings(action="ignore"):  # the library would have us ask the coordinator
            listed = self.client.list_groups(group, timeout=REQUEST_S)
        return next((one for one in listed if one.id == group), None)

    def unowned(self) -> int:
        """How many partitions no member of the classic group has, though it is at rest. 0 also where the
        brokers do not say."""
        try:
            found = self.classic_group()
            if found is None or found.state != "Stable":
                return 0
            owned = {place for member in found.members for place in places_of(member.assignment)}
            topics = self.topics().items()
            return sum((name, one.id) not in owned for name, topic in topics for one in topic.partitions)
        except Exception:  # it is asked again
            return 0

    def offsets(self, places: Sequence[TopicPart]) -> dict[TopicPart, tuple[int, int]]:
        """First and last offset that the brokers have of partitions, where they say so."""
        self.unreached = ""
        lib = client.library()
        spec, level = lib.admin.OffsetSpec, lib.IsolationLevel.READ_COMMITTED
        found: list[dict[TopicPart, int]] = []
        try:
            for which in (spec.earliest(), spec.latest()) if places else ():
                asked = {lib.TopicPartition(*place): which for place in places}
                answers = self.client.list_offsets(asked, isolation_level=level, request_timeout=REQUEST_S)
                found.append(
                    {(p.topic, p.partition): one.result(REQUEST_S).offset for p, one in answers.items()}
                )
        except Exception:  # it is a measurement, and is made again
            self._find_leaders({topic for topic, _ in places})
            return {}
        return {place: (found[0][place], last) for place, last in (found[1] if found else {}).items()}

    def _find_leaders(self, topics: Collection[str]) -> None:
        """The library does not look for them again by itself where ``list_offsets`` is refused by a leader
        that has changed, or is back (FENCED_LEADER_EPOCH), for the five minutes for which it keeps them."""
        try:
            for topic in topics:
                self.client.list_topics(topic, timeout=_LEADERS_S)
        except Exception as error:
            self.unreached = str(self.away(error))


class Led(NamedTuple):
    """Where bootstrap servers lead: servers by the id of their cluster; why others do not answer."""

    clusters: Mapping[str, Sequence[str]] = {}
    problems: Sequence[str] = ()

    @property
    def words(self) -> str:
        """If that is more than one cluster; else empty."""
        if len(self.clusters) < 2:
            return ""
        named = "; ".join(f"{', '.join(some)} to {cluster}" for cluster, some in self.clusters.items())
        return f"bootstrap_servers lead to {len(self.clusters)} clusters ({named})"


def where_they_lead(
    settings: KafkaConfig, within_s: float = REQUEST_S, known: Mapping[str, str] = _NOTHING
) -> Led:
    """Each of several servers is asked by itself: the library takes the brokers of all for those of one
    cluster, and each of its clients may get to another. ``known``: clusters of servers that are not asked.
    Blocks. Raises UserError."""
    servers = settings.bootstrap_servers
    if len(servers) < 2:
        return Led()

    def ask(server: str) -> tuple[str, str]:
        if server in known:
            return known[server], ""
        one = settings.model_copy(update={"bootstrap_servers": [server]})
        try:
            return Admin(one).cluster_id(within_s), ""
        except BrokerAway as error:
            return "", str(error)

    clusters: dict[str, list[str]] = {}
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        answers = [*pool.map(ask, servers)]
    for server, (cluster, _) in zip(servers, answers, strict=True):
        if cluster:
            clusters.setdefault(cluster, []).append(server)
    return Led(clusters, [problem for _, problem in answers if problem])
