#!/usr/bin/env bash
# confluent-kafka 2.16.0 and 2.16.1: while one thread of a program is in Consumer.consume() or poll(), each other call
# of that consumer in another thread waits until it returns: commit() with asynchronous=True, pause(), assignment(),
# position(), none of which asks the broker. With 2.15.0, and those before, they return at once. A service that polls in
# a thread, with a long timeout, and commits from its event loop stands still for that long at each commit since then;
# nothing fails, and nothing is logged. Pull request 2322 of confluent-kafka-python has the reason: Pythons without a
# GIL. ingestd makes all calls of a consumer in the thread that polls it.
# Without a broker: librdkafka's own mock of one. Takes half a minute. Exits 1 when that has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT; cd "$place"
cat > waits.py <<'PY'
import sys
import threading
import time

from confluent_kafka import Consumer, TopicPartition, libversion, version

POLL_S = 4.0
consumer = Consumer(
    {
        "bootstrap.servers": "",  # those of the mock
        "test.mock.num.brokers": 1,
        "group.id": "group",
        "enable.auto.commit": False,
        "log_level": 0,
    }
)
place = TopicPartition("topic", 0, 1)
consumer.assign([place])
consumer.consume(1, 1.0)
print("confluent-kafka", version(), "librdkafka", libversion()[0])
waited = []
for name, call in {
    "commit(asynchronous=True)": lambda: consumer.commit(offsets=[place], asynchronous=True),
    "pause()": lambda: consumer.pause([place]),
    "assignment()": consumer.assignment,
    "position()": lambda: consumer.position([place]),
}.items():
    polls = threading.Thread(target=consumer.consume, args=(1, POLL_S))
    polls.start()
    time.sleep(0.3)  # it is in consume() by then
    began = time.monotonic()
    call()
    seconds = time.monotonic() - began
    waited.append(seconds > POLL_S / 2)
    print(f"  {name}: {'waited for the end of consume()' if waited[-1] else 'returned at once'} ({seconds:.1f} s)")
    polls.join()
consumer.close()
sys.exit(waited != [sys.argv[1] == "waits"] * 4)
PY
for one in "2.15.0 returns" "2.16.0 waits" "2.16.1 waits"; do
  read -r version expected <<< "$one"
  python3 -m venv "$version"
  timeout 300 "$version/bin/pip" install --quiet --disable-pip-version-check "confluent-kafka==$version"
  timeout 100 "$version/bin/python" waits.py "$expected" || { echo "with $version it is another now"; exit 1; }
done
