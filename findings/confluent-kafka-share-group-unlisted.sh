#!/usr/bin/env bash
# confluent-kafka 2.16.1 (librdkafka 2.16.0) with Kafka 4.4.0: its ShareConsumer reads in a share group (KIP-932), and
# its AdminClient does not see that. list_consumer_groups() leaves the group out, without an error;
# describe_consumer_groups() says of it what it says of a group that does not exist: DEAD, CLASSIC, no members. Only
# list_groups() names it, as 'Dead' without a protocol, and warns that one should call the other two instead.
# ingestd asks both lists, to tell a share group from a name that is free (docs/sources/kafka.md).
# Needs Java 17 and Maven. Exits 1 when that has changed.
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
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
CONF
java=(java -Xmx320m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp 'lib/*')
timeout 120 "${java[@]}" kafka.tools.StorageTool format -t 4L6g3nShT-eMCtK--X86sw -c server.properties >log 2>&1
"${java[@]}" kafka.Kafka server.properties >>log 2>&1 & broker=$!
for _ in $(seq 240); do
  if (: < "/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
  sleep 0.25
done
cat > groups.py <<'PY'
import sys
import time
import warnings

import confluent_kafka as kafka
from confluent_kafka.admin import AdminClient, NewTopic

SERVER = {"bootstrap.servers": f"127.0.0.1:{sys.argv[1]}", "log_level": 0}
TOPIC = "topic"


def described(admin, group):
    told = admin.describe_consumer_groups([group])[group].result(30)
    print(f"describe_consumer_groups, {group}: {told.state.name}, {told.type.name}, {len(told.members)} members")
    return told.state.name, told.type.name, len(told.members)


def read(consumer, producer):
    """Until the group has been given a message."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        producer.produce(TOPIC, b"message")
        producer.flush(30)
        found = consumer.poll(0.5)
        messages = [found] if isinstance(found, kafka.Message) else found or []
        if any(not one.error() for one in messages):
            return
    sys.exit("60 s have passed")


admin = AdminClient(SERVER)
try:
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
except Exception as error:
    sys.exit(f"no broker: {error}")
print("confluent-kafka", kafka.__version__, "librdkafka", kafka.libversion()[0])
producer = kafka.Producer(SERVER)
members = [kafka.ShareConsumer({**SERVER, "group.id": "share"}), kafka.Consumer({**SERVER, "group.id": "classic"})]
for member in members:
    member.subscribe([TOPIC])
    read(member, producer)
print("a member of share and a member of classic have read a message")

listing = admin.list_consumer_groups().result(30)
listed = {one.group_id for one in listing.valid}
print(f"list_consumer_groups: {sorted(listed)}, {len(listing.errors)} errors")
share, classic, nobody = (described(admin, name) for name in ("share", "classic", "nobody"))
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    found = admin.list_groups(timeout=30)
named = {one.id: (one.state, one.protocol, one.protocol_type, len(one.members)) for one in found}
for group, told in named.items():
    print(f"list_groups, {group}: state, protocol, its type, members: {told}")
print(*(f"list_groups: {one.message}" for one in warned), sep="\n")
for member in members:
    member.close()
dead = ("DEAD", "CLASSIC", 0)
changed = (
    listed != {"classic"} or listing.errors != [] or share != dead or nobody != dead
    or classic != ("STABLE", "CLASSIC", 1) or named.get("share") != ("Dead", "", "", 0)
)
sys.exit("changed" if changed else 0)
PY
timeout 240 venv/bin/python groups.py "$port"
