#!/usr/bin/env bash
# Kafka 4.4.0 with confluent-kafka 2.16.1 (librdkafka 2.16.0), `cooperative-sticky`: of a group with static members
# (`group.instance.id`) one is killed in its `on_revoke`, while it gives partitions to a member that is new, and starts
# again within its `session.timeout.ms`. It gets what it was to keep, as the member that it was, without a rebalance.
# The partitions that it was giving back belong to nobody: their new owner gets them in a second rebalance, which the
# killed one had yet to ask for. The group is STABLE, all members send heartbeats, and nobody reads them, here for four
# sessions (10 s each), until a member joins, and then at once. Members without an id, or with `range`, read all.
# ingestd looks for such partitions, and joins the group again (docs/sources/kafka.md).
# Needs Java 17 and Maven; takes two minutes. Exits 1 when that has changed.
set -euo pipefail
place=$(mktemp -d); trap 'kill "${broker:-}" 2>/dev/null && wait "$broker" || true; rm -rf "$place"' EXIT; cd "$place"
python3 -m venv venv
timeout 300 venv/bin/pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1
cat > pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.4.0</version>
</dependency></dependencies></project>
POM
timeout 600 mvn -q -B dependency:copy-dependencies -DoutputDirectory=lib >/dev/null
read -r port control < <(python3 -c 'import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
cat > server.properties <<CONF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$control
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$control
log.dirs=$place/data
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
CONF
java=(java -Xmx320m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp 'lib/*')
timeout 120 "${java[@]}" kafka.tools.StorageTool format -t 4L6g3nShT-eMCtK--X86sw -c server.properties >log 2>&1
"${java[@]}" kafka.Kafka server.properties >>log 2>&1 & broker=$!
for _ in $(seq 240); do
  if (: < "/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
  sleep 0.25
done
cat > unread.py <<'PY'
import subprocess
import sys
import threading
import time

import confluent_kafka as kafka
from confluent_kafka.admin import AdminClient, NewTopic

SERVER = {"bootstrap.servers": f"127.0.0.1:{sys.argv[1]}", "log_level": 0}
SESSION_S, PARTITIONS = 10, 4


class Member:
    """``got``: partition and value of each message."""

    def __init__(self, topic, name, strategy, static, on_revoke=lambda *_: None):
        self.got = set()
        self.consumer = kafka.Consumer({
            **SERVER, "group.id": topic, **({"group.instance.id": name} if static else {}),
            "partition.assignment.strategy": strategy, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "session.timeout.ms": SESSION_S * 1000, "heartbeat.interval.ms": 500,
        })
        self.consumer.subscribe([topic], on_revoke=on_revoke)

    def poll(self):
        message = self.consumer.poll(0.05)
        if message is not None and not message.error():
            self.got.add(f"{message.partition()}:{message.value().decode()}")


def be_first(topic, strategy, static, dies):
    """The process that is killed, and the one that is started in its place."""

    def revoke(consumer, partitions):
        print("revokes", flush=True)
        if dies == "True":
            time.sleep(600)  # it ends what it has in hand, until it is killed

    one = Member(topic, "first", strategy, static == "True", revoke)
    while True:
        one.poll()
        while one.got:
            print(one.got.pop(), flush=True)


class First:
    def __init__(self, *words):
        command = [sys.executable, __file__, sys.argv[1], *map(str, words)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.got = set()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.got.add(line.strip())

    def kill(self):
        self.process.kill()
        self.process.wait()


def until(condition, *members):
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            sys.exit("60 s have passed")
        for member in members:
            member.poll()
        time.sleep(0.01)


def put(topic, word):
    for partition in range(PARTITIONS):
        producer.produce(topic, word, partition=partition)
    producer.flush(30)


def read(word, *members):
    """By how many partitions' messages with this word."""
    return len({one for member in members for one in member.got if one.endswith(f":{word}")})


def group_of(topic):
    found = admin.describe_consumer_groups([topic])[topic].result(30)
    return found.state.name, len(found.members), sum(len(m.assignment.topic_partitions) for m in found.members)


def play(topic, strategy, static):
    try:
        admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    except Exception as error:
        sys.exit(f"no broker: {error}")
    put(topic, b"before")
    first = First(topic, strategy, static, True)
    until(lambda: read("before", first) == PARTITIONS)
    second = Member(topic, "second", strategy, static)
    until(lambda: "revokes" in first.got, second)
    first.kill()
    killed = time.monotonic()
    first = First(topic, strategy, static, False)
    put(topic, b"after")
    while read("after", first, second) < PARTITIONS and time.monotonic() < killed + 4 * SESSION_S:
        second.poll()
    count, group = read("after", first, second), group_of(topic)
    print(f"{topic}: {time.monotonic() - killed:.0f} s after the kill {count} of {PARTITIONS} partitions are read; "
          f"the group is {group[0]}, {group[1]} members have {group[2]} partitions", flush=True)
    joined_s = 0.0
    if count < PARTITIONS:
        joined = time.monotonic()
        third = Member(topic, "third", strategy, static)
        until(lambda: read("after", first, second, third) == PARTITIONS, second, third)
        joined_s = time.monotonic() - joined
        print(f"  a third member joins: all of them after {joined_s:.1f} s", flush=True)
        third.consumer.close()
    first.kill()
    second.consumer.close()
    return count, group, joined_s < SESSION_S


if len(sys.argv) > 2:
    be_first(*sys.argv[2:])
admin, producer = AdminClient(SERVER), kafka.Producer(SERVER)
print("confluent-kafka", kafka.__version__, "librdkafka", kafka.libversion()[0], flush=True)
static = play("static-cooperative", "cooperative-sticky", True)
dynamic = play("dynamic-cooperative", "cooperative-sticky", False)
eager = play("static-range", "range", True)
as_seen = static == (2, ("STABLE", 2, 2), True) and dynamic[0] == eager[0] == PARTITIONS
sys.exit(0 if as_seen else "changed")
PY
timeout 300 venv/bin/python unread.py "$port"
