#!/usr/bin/env bash
# confluent-kafka 2.16.1 (librdkafka 2.16.0) with Kafka 4.4.0: a static member is fenced by a second consumer with
# its `group.instance.id`. poll() gives it one error with the code _FATAL (-150), of which `fatal()` says False; the
# cause (82, FENCED_INSTANCE_ID) is only in the text, and `error_cb` is not called. What comes then depends on who was
# told: after a heartbeat it gets no message any more; after a commit it reads on, every message that its successor
# gets too, until its own `session.timeout.ms` (10 s here, 45 s by default) is over. In the end every poll() is None,
# as of a topic with nothing new. confluent-kafka-python's issue 869 saw the flag in 2020, not the reading on.
# ingestd goes by the codes, and ends at the first (docs/sources/kafka.md).
# Needs Java 17 and Maven; takes a minute. Exits 1 when that has changed.
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
cat > fenced.py <<'PY'
import sys
import time

import confluent_kafka as kafka
from confluent_kafka.admin import AdminClient, NewTopic

SERVER = {"bootstrap.servers": f"127.0.0.1:{sys.argv[1]}", "log_level": 0}
FATAL = (-150, "_FATAL", False)


def words(error):
    return error.code(), error.name(), error.fatal()


class Member:
    def __init__(self, topic, heartbeat_s):
        self.got, self.errors, self.called = [], [], []
        self.consumer = kafka.Consumer({
            **SERVER, "group.id": topic, "group.instance.id": "one", "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": int(heartbeat_s * 1000), "error_cb": self.called.append,
        })
        self.consumer.subscribe([topic])

    def poll(self):
        message = self.consumer.poll(0.1)
        if message is not None and message.error():
            self.errors.append(message.error())
        elif message is not None:
            self.got.append(int(message.value()))

    def commit(self):
        try:
            self.consumer.commit(asynchronous=False)
        except kafka.KafkaException as error:
            return words(error.args[0])


def until(condition, *members):
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            sys.exit("30 s have passed")
        for member in members:
            member.poll()


def put(topic, number):
    producer.produce(topic, b"%d" % number)
    producer.flush(30)


def fenced(how, heartbeat_s, commits):
    """How many messages the fenced member gets in the 20 s after its error; the session ends in their middle."""
    try:
        admin.create_topics([NewTopic(how, 1, 1)])[how].result(30)
    except Exception as error:
        sys.exit(f"no broker: {error}")
    put(how, 0)
    first = Member(how, heartbeat_s)
    until(lambda: first.got, first)
    second = Member(how, 3)
    until(lambda: second.got, second)
    commit = first.commit() if commits else None
    until(lambda: first.errors, first, second)
    begun, told, first.got, first.errors = time.monotonic(), first.errors, [], []
    last = 0.0
    for number in range(1, 41):
        put(how, number)
        before = len(first.got)
        until(lambda: number in second.got, second)
        for _ in range(3):
            first.poll()
        if len(first.got) > before:
            last = time.monotonic() - begun
        time.sleep(max(0.0, begun + number / 2 - time.monotonic()))
    print(f"told by a {how}: {len(told)} error of poll(), {words(told[0])}: {told[0].str()}")
    print(f"  error_cb: {len(first.called)} calls; of 40 messages in 20 s the second has {len(second.got) - 1}")
    when = f", the last {last:.1f} s behind it" if last else ""
    print(f"  the first has {len(first.got)} after the error{when}, and {len(first.errors)} more errors")
    later = first.commit()
    print(f"  its commit() when it was fenced: {commit}; later: {later}")
    first.consumer.close()
    second.consumer.close()
    as_seen = [words(one) for one in told] == [FATAL] and not first.errors and 40 not in first.got
    return len(first.got), as_seen and later == FATAL, commit


admin, producer = AdminClient(SERVER), kafka.Producer(SERVER)
print("confluent-kafka", kafka.__version__, "librdkafka", kafka.libversion()[0])
by_heartbeat = fenced("heartbeat", 0.5, commits=False)
by_commit = fenced("commit", 9, commits=True)
told = 82, "FENCED_INSTANCE_ID", False
as_seen = by_heartbeat == (0, True, None) and by_commit[0] > 1 and by_commit[1:] == (True, told)
sys.exit(0 if as_seen else "changed")
PY
timeout 180 venv/bin/python fenced.py "$port"
