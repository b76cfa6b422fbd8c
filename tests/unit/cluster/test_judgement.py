"""What ``ingestd spool check`` finds in servers and streams that cannot keep a spool's promises."""

import json
from typing import Any

from ingestd.app.cluster.judgement import judge_stream
from ingestd.cluster.provisioning import stream_configs
from ingestd.config import Settings
from ingestd.sources.nats.servers import Greeting, apart, read_greeting
from tests.each import each

EVENTS, FROZEN, DEAD, STATE = stream_configs(Settings())


@each(
    "wanted, changed, words",
    [
        (EVENTS, {}, ""),
        (STATE, {}, ""),
        (EVENTS, {"max_age": 10**9}, "forgets messages by itself"),
        (FROZEN, {"max_msgs_per_subject": 5}, "forgets messages by itself"),
        (EVENTS, {"discard": "old"}, "discard is not new"),
        (EVENTS, {"subject_transform": {"src": ">", "dest": "x.>"}}, "has subject_transform: workers miss"),
        (EVENTS, {"sources": [{"name": "other"}]}, "has sources: workers miss"),
        (DEAD, {"mirror": {"name": "other"}}, "has mirror: workers miss"),
    ],
)
def test_a_stream_that_loses_or_gets_what_is_not_the_spool_s_fails(
    wanted: dict[str, Any], changed: dict[str, Any], words: str
) -> None:
    (finding,) = judge_stream(wanted["name"], wanted, wanted | changed, 0)
    assert finding.level == ("FAIL" if words else "ok")
    assert words in finding.text


def greeting(id_: str, **more: Any) -> Greeting:
    return read_greeting(b"INFO " + json.dumps({"server_id": id_, "jetstream": True, **more}).encode())


def test_servers_that_are_not_one_cluster_are_not_taken_for_one() -> None:
    a, b = greeting("A"), greeting("B")
    both = apart({"nats://a:4222": a, "nats://b:4222": b})
    assert both.startswith("nats://a:4222 and nats://b:4222 are of no cluster")
    assert apart({"nats://a:4222": a, "nats://b:4222": greeting("B", cluster="c")}).startswith(
        "nats://a:4222 is"
    )
    assert not apart({"a": greeting("A", cluster="c"), "b": greeting("B", cluster="c")})
    assert not apart({"a": a, "the same by another name": greeting("A")})
    assert not apart({"a": a, "b": Greeting("Connection refused")})
    assert not apart({"a": a, "b": read_greeting(b"HTTP/1.1 400 Bad Request\r\n")})
    assert not apart({"a": a, "b": read_greeting(b"INFO " + b"[" * 60_000)})
