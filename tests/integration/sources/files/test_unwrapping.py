"""Events in envelopes, as archives and log deliveries of AWS have them: read with --unwrap."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from ingestd.core.chunk import Chunk
from ingestd.core.unwrap import UnwrapSection
from ingestd.sources.files.jsonl import JsonSource
from tests.each import each
from tests.integration.sources.files.test_jsonl import chunks_of

pytestmark = pytest.mark.anyio

ROWS = [b'{"n":%d}' % number for number in range(3)]
DETAILS = [b'{"version":"0","id":"i","detail":%b}' % row for row in ROWS]
SQS = json.dumps({"Records": [{"messageId": "m", "body": row.decode()} for row in ROWS]}).encode()
RECORDS = b'{"Records":[%b]}' % b",".join(ROWS)


async def chunks(path: Path, content: bytes, *, start: int = 0, line: int = 1, **options: Any) -> list[Chunk]:
    await anyio.Path(path).write_bytes(content)
    unwrap = UnwrapSection.model_validate({"unwrap": options.pop("unwrap")}).unwrapper
    return await chunks_of(JsonSource(str(path), unwrap=unwrap, **options), start, line)


@each(
    "content, options",
    [
        (b"\n".join(DETAILS) + b"\n", {"unwrap": "detail"}),
        (b"".join(DETAILS), {"unwrap": "$.detail"}),
        (b"\x1e" + b"\n\x1e".join(DETAILS) + b"\n", {"unwrap": "/detail"}),
        (b"[%b]" % b",".join(DETAILS), {"unwrap": "detail"}),
        (b"\n".join(json.dumps(json.loads(one), indent=2).encode() for one in DETAILS), {"unwrap": "detail"}),
        (RECORDS, {"unwrap": "Records"}),
        (b'{"events":[%b]}{"events":[%b]}' % (ROWS[0], b",".join(ROWS[1:])), {"unwrap": "events"}),
        (b'{"a":{"events":[%b]}}\n' % b",".join(ROWS), {"unwrap": "a.events"}),
        (SQS, {"items": "Records", "unwrap": "body"}),
        (SQS, {"unwrap": "Records", "items": ""}),
        (SQS, {"unwrap": "Records.body"}),
        (b'{"a":[{"b":[{"e":%b}]},{"b":[{"e":%b},{"e":[%b]}]}]}' % tuple(ROWS), {"unwrap": "a.b.e"}),
        (json.dumps({"Message": RECORDS.decode()}).encode() + b"\n", {"unwrap": "Message.Records"}),
    ],
)
async def test_the_events_are_what_the_envelopes_hold(
    tmp_path: Path, content: bytes, options: dict[str, Any]
) -> None:
    found = [event for one in await chunks(tmp_path / "in", content, **options) for event in one.events]
    if found and b"messageId" in found[0]:
        found = [json.loads(one)["body"].encode() for one in found]
    assert [json.loads(one) for one in found] == [json.loads(row) for row in ROWS]


async def test_an_envelope_without_an_event_is_named_and_costs_itself(tmp_path: Path) -> None:
    content = DETAILS[0] + b'\n{"id":"i"}\nno JSON\n' + DETAILS[1] + DETAILS[2] + b"\n"
    (chunk,) = await chunks(tmp_path / "in", content, unwrap="detail")
    assert [bytes(one) for one in chunk.events] == [ROWS[0], b'{"id":"i"}', b"no JSON", *ROWS[1:]]
    assert chunk.unreadable == {
        1: "nothing is at detail, where unwrap looks for it",
        2: "it is not JSON",
    }
    assert [chunk.place(index)[1] for index in range(5)] == [1, 2, 3, 4, 4]


async def test_an_element_without_an_event_costs_itself_and_not_its_envelope(tmp_path: Path) -> None:
    content = b'{"a":[{"e":%b},{},[{"e":1}],{"e":%b}]}\n{"a":7}\n' % (ROWS[0], ROWS[1])
    (chunk,) = await chunks(tmp_path / "in", content, unwrap="a.e")
    assert [bytes(one) for one in chunk.events] == [ROWS[0], b"{}", b'[{"e":1}]', ROWS[1], b'{"a":7}']
    assert chunk.unreadable == dict.fromkeys((1, 2, 4), "nothing is at a.e, where unwrap looks for it")
    assert [chunk.place(index)[1] for index in range(5)] == [1, 1, 1, 1, 2]


async def test_a_list_longer_than_memory_allows_is_read_bit_by_bit_and_gone_on_with(tmp_path: Path) -> None:
    rows = [b'{"n":%d,"pad":"%b"}' % (number, b"x" * 90) for number in range(3000)]
    content = b'{"v":1,"Records":[%b]}' % b",\n".join(rows)
    options = {"unwrap": "Records", "chunk_bytes": 8192, "max_event_bytes": 16384}
    whole = await chunks(tmp_path / "in", content, **options)
    assert len(whole) > 30
    assert [event for one in whole for event in one.events] == rows
    for one in whole[1::9]:
        rest = await chunks(tmp_path / "in", content, start=one.end, line=one.next_line, **options)
        assert [event for two in rest for event in two.events] == rows[one.next_line - 1 :]


async def test_values_are_read_wherever_they_begin_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "in"
    await anyio.Path(path).write_bytes(ROWS[0] + b'\n{\n "n": 1\n}\n' + ROWS[2] + b"\n[\n1]\n")
    for layout, count in (("auto", 7), ("lines", 7), ("values", 4)):
        (chunk,) = await chunks_of(JsonSource(str(path), layout=layout))
        assert len(chunk.events) == count
