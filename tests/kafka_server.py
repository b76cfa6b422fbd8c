"""A real Kafka broker on loopback, of Maven's jars and Java 17: ``make kafka`` fetches them, and runs tests.

``KAFKA_LIB`` names the folder of the jars; without it the tests that need a broker are skipped. One broker
serves a whole run: its start costs some 4 s of CPU.
"""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import self_signed
from tests.machine import patience
from tests.ports import free_port

VERSION = "4.4.0"
START_S = 60.0
_names = itertools.count()
_POM = f"""<project><modelVersion>4.0.0</modelVersion>
<groupId>ingestd</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
</dependency></dependencies></project>
"""
_QUICK = ("-Xmx320m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_CLUSTER = "4L6g3nShT-eMCtK--X86sw"


def fetch(lib: Path) -> None:
    """Maven copies the jars (43 MB) to ``lib``; the classes of one run are archived, which halves a start."""
    if not list(lib.glob("kafka_2.13-*.jar")):
        lib.mkdir(parents=True, exist_ok=True)
        pom = lib / "pom.xml"
        pom.write_text(_POM)
        words = [
            "mvn",
            "-q",
            "-B",
            "-f",
            str(pom),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={lib}",
        ]
        subprocess.run(words, check=True)
    if not (lib / "classes.jsa").exists():
        server = KafkaServer(
            lib / "archive", lib=lib, more_flags=[f"-XX:ArchiveClassesAtExit={lib}/classes.jsa"]
        )
        server.start()
        server.stop()


class KafkaServer:
    """One node that is broker and controller. ``settings``: more lines of its properties. Beside the open
    listener one with SASL_PLAINTEXT for PLAIN, SCRAM and OAUTHBEARER with tokens that nobody signed
    (``sasl_port``), and one with TLS that asks for the certificate in ``client_files`` (``tls_port``)."""

    def __init__(
        self,
        directory: Path,
        settings: str = "",
        *,
        lib: Path | None = None,
        more_flags: list[str] | None = None,
        cluster: str = _CLUSTER,
    ) -> None:
        self.directory = directory
        self._cluster = cluster
        self.port, self.sasl_port, self.tls_port, control = (free_port() for _ in range(4))
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._lib = lib or Path(os.environ["KAFKA_LIB"])
        archive = self._lib / "classes.jsa"
        self._flags = [
            *_QUICK,
            *(more_flags or ([f"-XX:SharedArchiveFile={archive}"] if archive.exists() else [])),
        ]
        directory.mkdir(parents=True, exist_ok=True)
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        bearer = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
        plain = (
            'org.apache.kafka.common.security.plain.PlainLoginModule required user_ingestd="SEKRIT-kafka";'
        )
        files = directory / "tls"
        files.mkdir(exist_ok=True)
        self.ca_file, key_file = self_signed(files)
        self.client_files = self_signed(files, for_clients=True)
        (files / "server.pem").write_text(Path(key_file).read_text() + Path(self.ca_file).read_text())
        (directory / "server.properties").write_text(f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{control}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{control},LOGIN://127.0.0.1:{self.sasl_port},TLS://127.0.0.1:{self.tls_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SSL
listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER
listener.name.login.oauthbearer.sasl.jaas.config={bearer}
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location={files}/server.pem
listener.name.tls.ssl.truststore.type=PEM
listener.name.tls.ssl.truststore.location={self.client_files[0]}
listener.name.tls.ssl.client.auth=required
listener.name.login.plain.sasl.jaas.config={plain}
listener.name.login.scram-sha-256.sasl.jaas.config={scram}
log.dirs={directory}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.retention.check.interval.ms=500
log.initial.task.delay.ms=100
log.segment.delete.delay.ms=100
log.cleaner.backoff.ms=200
{settings}
""")

    def _java(self, *words: str) -> list[str]:
        return ["java", *self._flags, "-cp", f"{self._lib}/*", *words]

    def start(self) -> None:
        properties = str(self.directory / "server.properties")
        if not (self.directory / "data").exists():
            scram = "SCRAM-SHA-256=[name=scram,password=SEKRIT-scram]"
            words = (
                "kafka.tools.StorageTool",
                "format",
                "-t",
                self._cluster,
                "-c",
                properties,
                "--add-scram",
                scram,
            )
            subprocess.run(self._java(*words), check=True, capture_output=True)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._java("kafka.Kafka", properties), stdout=log, stderr=log)
        until = time.monotonic() + patience(START_S)
        while True:
            assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < until, "Kafka does not listen"
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(patience(20))
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


@contextmanager
def kafka_server(directory: Path, settings: str = "", *, cluster: str = _CLUSTER) -> Iterator[KafkaServer]:
    if "KAFKA_LIB" not in os.environ:
        pytest.skip("there is no Kafka broker: make kafka fetches one")
    server = KafkaServer(directory, settings, cluster=cluster)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """For everybody: a test makes topics of its own in it."""
    with kafka_server(tmp_path_factory.mktemp("kafka")) as server:
        yield server


class Topic:
    """A topic that a test owns."""

    def __init__(self, bootstrap: str, name: str) -> None:
        import confluent_kafka
        from confluent_kafka import admin

        self.kafka = confluent_kafka
        self.name = name
        self.bootstrap = bootstrap
        self._readers: dict[str, Any] = {}
        self.admin = admin.AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._options = {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "log_level": 0,
            "message.max.bytes": 2_000_000,
        }
        self._producer = confluent_kafka.Producer(self._options)

    def create(self, partitions: int, config: Mapping[str, str]) -> None:
        new = self.kafka.admin.NewTopic(self.name, partitions, 1, config=dict(config))
        self.admin.create_topics([new])[self.name].result(patience(20))

    def delete(self) -> None:
        self.admin.delete_topics([self.name])[self.name].result(patience(20))

    def produce(
        self,
        *payloads: bytes | None,
        partition: int = 0,
        headers: Any = None,
        keys: Sequence[bytes] = (),
    ) -> None:
        """``keys``: one for each; else they have the same."""
        for at, payload in enumerate(payloads):
            self._produce(payload, partition, headers, keys[at] if keys else b"k")
        assert self._producer.flush(patience(20)) == 0

    def _produce(self, payload: bytes | None, partition: int, headers: Any, key: bytes = b"k") -> None:
        more = {"headers": headers} if headers else {}
        while True:
            try:
                self._producer.produce(self.name, payload, key=key, partition=partition, **more)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def send(self, payload: bytes, partition: int) -> None:
        """Without waiting: ``produce`` does."""
        self._produce(payload, partition, None)

    def transaction(self, *payloads: bytes) -> Any:
        """A producer that has sent these in one that is open."""
        producer = self.kafka.Producer({**self._options, "transactional.id": f"{self.name}-t"})
        producer.init_transactions(patience(20))
        producer.begin_transaction()
        for payload in payloads:
            producer.produce(self.name, payload, partition=0)
        producer.flush(patience(20))
        return producer

    def produce_in_a_transaction(self, *payloads: bytes, commit: bool) -> None:
        producer = self.transaction(*payloads)
        (producer.commit_transaction if commit else producer.abort_transaction)(patience(20))

    def delete_before(self, offset: int, partition: int = 0) -> None:
        """As its retention does."""
        at = self.kafka.TopicPartition(self.name, partition, offset)
        for answer in self.admin.delete_records([at]).values():
            answer.result(patience(20))

    def offsets(self, partition: int = 0) -> list[int]:
        """Of the messages that are there, up to the end of now."""
        options = {"bootstrap.servers": self.bootstrap, "group.id": f"{self.name}-offsets", "log_level": 0}
        reader = self.kafka.Consumer({**options, "enable.partition.eof": True, "enable.auto.commit": False})
        try:
            reader.assign([self.kafka.TopicPartition(self.name, partition, 0)])
            found: list[int] = []
            while (message := reader.poll(patience(20))) is not None and not message.error():
                found.append(message.offset())
            return found
        finally:
            reader.close()

    def committed(self, group: str = "ingestd", partition: int = 0) -> int:
        """-1001: nothing. Asked by a consumer that does not join: an AdminClient of librdkafka 2.16.0
        ends the process (SIGSEGV) where the coordinator answers with an error, as while it starts."""
        if group not in self._readers:
            self._readers[group] = self.kafka.Consumer(
                {"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0}
            )
        at = self.kafka.TopicPartition(self.name, partition)
        try:
            return int(self._readers[group].committed([at], timeout=patience(10))[0].offset)
        except self.kafka.KafkaException:
            return -1001

    async def settled(self, offset: int, group: str = "ingestd", partition: int = 0) -> None:
        """Wait until the group's offset is there."""
        until = time.monotonic() + patience(30)
        while (found := await asyncio.to_thread(self.committed, group, partition)) != offset:
            assert time.monotonic() < until, f"{found} is committed"
            await asyncio.sleep(0.05)


def topic(server: KafkaServer, partitions: int = 1, *, name: str = "", **config: str) -> Topic:
    """``config``: of the topic, with _ for its dots."""
    made = Topic(server.bootstrap, name or f"topic-{os.getpid()}-{next(_names)}")
    made.create(partitions, {key.replace("_", "."): value for key, value in config.items()})
    return made


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
