#!/usr/bin/env bash
# confluent-kafka 2.16.1 (librdkafka 2.16.0): a consumer gives the epoch of the last message it has (KIP-320), so that
# the broker can say whether the log behind it was replaced. The broker is asked when the consumer seeks there, and when
# it is assigned before it knows the partition's leader. Once it knows the leader an assigned epoch is not asked about;
# and a member of a group knew it by then, so what its group has committed with an epoch was not asked about. It
# reads on at that number, and the error _LOG_TRUNCATION, which is there for this, cannot come. librdkafka's issue 5158
# (2025, closed) is about assigned offsets of either kind.
# ingestd seeks to where it was assigned, and waits for the answer (docs/sources/kafka.md).
# A broker of librdkafka's own answers here; with Kafka 4.4.0 it is the same. Exits 1 when that has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT; cd "$place"
python3 -m venv venv
timeout 300 venv/bin/pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1
cat > epochs.py <<'PY'
import logging
import sys
import time

import confluent_kafka as kafka
from confluent_kafka import TopicPartition

said = []


class Listener(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())


log = logging.getLogger("library")
log.setLevel(logging.DEBUG)
log.addHandler(Listener())


def questions():
    return sum("Sent OffsetForLeaderEpochRequest" in line for line in said)


def consumer(servers):
    return kafka.Consumer(
        {"bootstrap.servers": servers, "group.id": "one", "auto.offset.reset": "earliest",
         "enable.auto.commit": False, "debug": "protocol"}, logger=log)


def read(one, count=3):
    found, until = [], time.monotonic() + 30
    while len(found) < count and time.monotonic() < until:
        message = one.poll(0.5)
        if message is not None and not message.error():
            found.append((message.offset(), message.leader_epoch()))
    return found


print("confluent-kafka", kafka.version(), "librdkafka", kafka.libversion()[0])
producer = kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0})
brokers = producer.list_topics(timeout=30).brokers.values()
servers = ",".join(f"{one.host}:{one.port}" for one in brokers)
for number in range(12):
    producer.produce("t", b"%d" % number, partition=0)
producer.flush(30)

rows = []
one = consumer(servers)
for how, offset in (("assigned, leader unknown", 2), ("assigned, leader known", 3)):
    before = questions()
    one.assign([TopicPartition("t", 0, offset, leader_epoch=0)])
    rows.append((how, read(one), questions() - before))
before = questions()
one.seek(TopicPartition("t", 0, 4, leader_epoch=0))
rows.append(("sought", read(one), questions() - before))
one.commit(offsets=[TopicPartition("t", 0, 6, leader_epoch=0)], asynchronous=False)
one.close()

before = questions()
one = consumer(servers)
one.subscribe(["t"])
rows.append(("committed, by its group", read(one), questions() - before))
[committed] = one.committed([TopicPartition("t", 0)], timeout=30)
print("committed", committed.offset, "of epoch", committed.leader_epoch)
one.close()

for how, found, asked in rows:
    print(f"{how}: (offset, epoch) {found}, the broker was asked {asked} times")
expected = [
    ("assigned, leader unknown", [(2, 0), (3, 0), (4, 0)], 1),
    ("assigned, leader known", [(3, 0), (4, 0), (5, 0)], 0),
    ("sought", [(4, 0), (5, 0), (6, 0)], 1),
    ("committed, by its group", [(6, 0), (7, 0), (8, 0)], 0),
]
sys.exit(rows != expected or (committed.offset, committed.leader_epoch) != (6, 0))
PY
timeout 120 venv/bin/python epochs.py 2>/dev/null
