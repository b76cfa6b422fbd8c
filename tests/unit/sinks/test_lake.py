import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.errors import UserError
from ingestd.lake.file_format import encode, encode_ndjson, files_of
from ingestd.sinks import lake
from ingestd.sinks.lake import MAX_FOLDERS, LakeLayout, Partitioner
from ingestd.store.outbox_rows import OutboxDelivery
from tests.each import each

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def folder(event: bytes, **layout: Any) -> str:
    partitioner = Partitioner(LakeLayout(**layout))
    return partitioner.folder(partitioner.place(event))


def deliveries(*events: bytes, at: float = 1e9) -> list[OutboxDelivery]:
    return [OutboxDelivery(7, "r", 0.1, at, 1, 0, list(events))]


def test_a_cloud_event_and_an_interaction_event_are_placed_by_their_usual_names() -> None:
    assert folder(b'{"type":"order.created","time":"2026-11-21T09:59:59Z"}') == (
        "date=2026-11-21/hour=09/type=order.created"
    )
    assert folder(b'{"eventType":"routing.x","eventTime":"2026-11-21T09:00:00.123+00:00"}') == (
        "date=2026-11-21/hour=09/type=routing.x"
    )


def test_times_are_in_utc() -> None:
    assert folder(b'{"time":"2026-01-01T00:30:00+01:00"}', partition="date/hour") == "date=2025-12-31/hour=23"
    assert folder(b'{"time":"2026-01-01T00:30:00"}', partition="date/hour") == "date=2026-01-01/hour=00"


def test_folders_come_in_the_order_asked_for_and_need_not_be() -> None:
    event = b'{"type":"a","time":"2026-01-01T00:30:00Z"}'
    assert folder(event, partition="type/date") == "type=a/date=2026-01-01"
    assert folder(event, partition="") == ""


@each("depth", ["kind", "data.kind", "data.0.kind"])
def test_paths_may_be_set(depth: str) -> None:
    event: Any = "x"
    for part in reversed(depth.split(".")):
        event = [event] if part == "0" else {part: event}
    assert folder(json.dumps(event).encode(), partition="type", event_type=depth) == "type=x"
    assert folder(b'{"type":"usual"}', partition="type", event_type=depth) == "type=unknown"


@each(
    ("event", "expected"),
    [
        (b"{}", "unknown"),
        (b"[]", "unknown"),
        (b"not json", "unknown"),
        (b"\xff", "unknown"),
        (b'{"type":null}', "unknown"),
        (b'{"type":""}', "unknown"),
        (b'{"type":{"a":1}}', "unknown"),
        (b'{"type":7}', "7"),
        (b'{"type":true}', "true"),
        (b'{"type":".."}', "__"),
        (b'{"type":"../../etc/passwd"}', "__..."),
        (b'{"type":".hidden"}', "_hidden"),
        (b'{"type":"a/b\\\\c=d%e f"}', "a_b_c_d_e_f"),
        (b'{"type":"a\\u0000b\\nc"}', "a_b_c"),
        ('{"type":"größe✓"}'.encode(), "gr__e_"),
        (b'{"type":"' + b"x" * 5000 + b'"}', "x" * 100),
        (b'{"type":' + b"[" * 5000 + b"]" * 5000 + b"}", "unknown"),
    ],
)
def test_no_value_of_an_event_leads_out_of_its_folder(event: bytes, expected: str) -> None:
    shown = folder(event, partition="type").removeprefix("type=")
    assert shown == expected if not expected.endswith("...") else shown.startswith(expected[:2])


@each(
    "time",
    ["", "yesterday", "2026-13-01", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00", "9" * 99],
)
def test_a_time_that_is_none_is_unknown(time: str) -> None:
    assert folder(json.dumps({"time": time}).encode()) == "date=unknown/hour=unknown/type=unknown"


@given(
    st.binary(max_size=80) | st.dictionaries(st.sampled_from(["type", "time", "id"]), st.text() | st.none())
)
def test_every_event_has_a_folder_of_harmless_characters(content: Any) -> None:
    event = content if isinstance(content, bytes) else json.dumps(content).encode()
    parts = folder(event).split("/")
    assert [part.split("=")[0] for part in parts] == ["date", "hour", "type"]
    for part in parts:
        value = part.split("=", 1)[1]
        assert 0 < len(value) <= 100
        assert not value.startswith(".")
        assert not set(value) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


@each("partition", ["week", "date/date", "date,hour", "../date"])
def test_a_partition_that_makes_no_sense_is_refused(partition: str) -> None:
    with pytest.raises(UserError, match="partition"):
        LakeLayout(partition=partition)
    with pytest.raises(UserError, match="one path"):
        LakeLayout(time="a,b")


def test_a_layout_comes_back_as_it_was() -> None:
    layout = LakeLayout(format="parquet", partition="type", time="data.at", event_type="kind")
    assert LakeLayout.decode(layout.encode()) == layout


def test_types_without_end_do_not_make_folders_without_end() -> None:
    events = [b'{"id":%d,"type":"t%d"}' % (n, n) for n in range(MAX_FOLDERS + 50)]
    files = files_of(deliveries(*events), LakeLayout(partition="type"))
    assert len(files) == MAX_FOLDERS + 1
    (rest,) = [file for file in files if file.name.startswith("type=other/")]
    assert len(rest.events) == 50


def test_the_same_rows_give_the_same_names_and_bytes() -> None:
    for layout in (LakeLayout(), LakeLayout(format="parquet")):
        once, again = (
            [encode(file, layout) for file in files_of(deliveries(b'{"type":"a"}', b'{"type":"b"}'), layout)]
            for _ in range(2)
        )
        assert once == again
        assert len(once) == 2


def test_rows_of_another_time_have_other_names_though_their_numbers_and_events_are_the_same() -> None:
    (one,), (other,) = (files_of(deliveries(b"{}", at=at), LakeLayout()) for at in (1e9, 1e9 + 0.001))
    assert one.name != other.name


def test_an_event_over_several_lines_is_one_line_with_the_same_content() -> None:
    pretty = json.dumps({"a": [1, {"b": "x\ny"}], "c": 1.50}, indent=2).encode().replace(b"\n", b"\r\n")
    plain = b'{"big":12345678901234567890.10,"esc":"\\u00e9"}'
    (file,) = files_of(deliveries(pretty, plain), LakeLayout(partition=""))
    text = zstd.decompress(encode_ndjson(file.events))
    first, second, rest = text.split(b"\n")
    assert json.loads(first) == json.loads(pretty)
    assert b"\r" not in first
    assert (second, rest) == (plain, b"")


def test_a_flipped_bit_in_a_file_is_noticed_by_whoever_reads_it() -> None:
    (file,) = files_of(deliveries(*[b'{"n":%d}' % n for n in range(100)]), LakeLayout())
    body = bytearray(encode_ndjson(file.events))
    body[len(body) // 2] ^= 1
    with pytest.raises(zstd.ZstdError):
        zstd.decompress(body)


def test_a_manifest_says_when_its_events_were() -> None:
    events = (b'{"time":"2026-11-21T09:30:00Z"}', b'{"time":"2026-11-21T09:10:00Z"}', b"{}")
    (file,) = files_of(deliveries(*events, at=1_790_000_000.5), LakeLayout(partition=""))
    manifest = json.loads(encode(file, LakeLayout(partition="")).manifest)
    assert (manifest["first_time"], manifest["last_time"]) == (
        "2026-11-21T09:10:00.000Z",
        "2026-11-21T09:30:00.000Z",
    )
    assert datetime.fromisoformat(manifest["first_at"]) == datetime.fromtimestamp(1_790_000_000.5, UTC)


def test_no_event_keeps_parquet_from_being_written() -> None:
    events = [b'{"type":"\\ud800"}', b'{"type":"a\\u0000b"}', b'{"time":"0001-01-01T00:00:00Z"}', b"\xff\xfe"]
    for file in files_of(deliveries(*events), LakeLayout(format="parquet")):
        assert encode(file, LakeLayout(format="parquet")).body.startswith(b"PAR1")


@each(
    ("status", "taken", "configuration"),
    [
        (200, True, False),
        (201, True, False),
        (412, True, False),
        (0, False, False),
        (301, False, True),
        (400, False, True),
        (403, False, True),
        (404, False, True),
        (409, False, False),
        (429, False, False),
        (500, False, False),
        (503, False, False),
        (507, False, False),
    ],
)
def test_what_an_answer_of_the_lake_means(status: int, taken: bool, configuration: bool) -> None:
    assert lake.is_written(Answer(status)) is taken
    if not taken:
        assert lake.is_configuration(Answer(status)) is configuration


@each(
    ("time", "event_type"),
    [("at", "kind"), ("$.at", "/kind"), ("$['at']", ".kind"), ("meta.at", "/meta/kind")],
)
def test_paths_of_time_and_type_are_written_in_any_notation(time: str, event_type: str) -> None:
    at = "2026-01-01T10:00:00Z"
    event = json.dumps({"at": at, "kind": "x", "meta": {"at": at, "kind": "x"}}).encode()
    place = Partitioner(LakeLayout(time=time, event_type=event_type)).place(event)
    assert (place.time, place.type) == (datetime(2026, 1, 1, 10, tzinfo=UTC), "x")
