"""Rows of Parquet as events: what each type of Arrow's becomes, and the same from any region on."""

from datetime import date, time, timedelta
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestd.schemas.column_types import ANY
from ingestd.sources.files.columns import Unusable
from ingestd.sources.files.parquet_rows import ParquetRows
from ingestd.sources.files.splitter import Region
from tests.each import each
from tests.unit.sources.files.memory import events_of, outline, regions_of

WHEN = 1_767_261_600  # 2026-01-01T10:00:00Z
MAP = pa.map_(pa.string(), pa.float32())
DEEP = reduce(lambda kind, _: pa.struct([("a", kind)]), range(70), pa.int8())
STRUCT = pa.struct([("at", pa.timestamp("s", "UTC")), ("n", pa.float64())])


def regions_from(
    path: Path, start: int = 0, *, chunk: int = 1 << 18, most: int = 1 << 20
) -> tuple[list[Region], str]:
    with path.open("rb") as file:
        return regions_of(
            ParquetRows(file, lambda names: ANY, start=start, chunk_bytes=chunk, max_event_bytes=most)
        )


@each(
    "kind, value, text",
    [
        (pa.int64(), -(2**63), "-9223372036854775808"),
        (pa.uint64(), 2**64 - 1, "18446744073709551615"),
        (pa.bool_(), True, "true"),
        (pa.string(), 'é"\n', '"é\\"\\n"'),
        (pa.large_string(), "", '""'),
        (pa.dictionary(pa.int32(), pa.string()), "x", '"x"'),
        (pa.float64(), 0.1, "0.1"),
        (pa.decimal128(38, 4), Decimal("123456789012345678901234.3400"), "123456789012345678901234.3400"),
        (pa.decimal256(60, 0), Decimal(10**59), str(10**59)),
        (pa.timestamp("s", "UTC"), WHEN, '"2026-01-01T10:00:00Z"'),
        (pa.timestamp("ms", "+02:00"), WHEN * 1000 + 5, '"2026-01-01T10:00:00.005Z"'),
        (pa.timestamp("us", "Europe/Berlin"), WHEN * 10**6 + 120_000, '"2026-01-01T10:00:00.120Z"'),
        (pa.timestamp("ns", "UTC"), -1, '"1969-12-31T23:59:59.999999999Z"'),
        (pa.timestamp("us"), WHEN * 10**6 + 1, '"2026-01-01T10:00:00.000001"'),
        (pa.date32(), date(2026, 1, 1), '"2026-01-01"'),
        (pa.time64("us"), time(1, 2, 3, 4), '"01:02:03.000004"'),
        (pa.uuid(), UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (pa.list_(pa.int8()), [1, None, 2], "[1,null,2]"),
        (pa.list_(pa.float64(), 2), [1.5, 2.5], "[1.5,2.5]"),
        (STRUCT, {"at": WHEN, "n": None}, '{"at":"2026-01-01T10:00:00Z"}'),
        (pa.list_(STRUCT), [{"at": None, "n": 1.5}, {}], '[{"n":1.5},{}]'),
        (MAP, [("a", 1.5), ("b", None)], '{"a":1.5,"b":null}'),
    ],
)  # fmt: skip
def test_what_a_value_becomes(kind: Any, value: object, text: str, tmp_path: Path) -> None:
    others = pa.array([None, value, None, value], kind)  # null is absent
    pq.write_table(pa.table({"v": others, "a.b": ["x"] * 4}), tmp_path / "t.parquet")
    (region,), damage = regions_from(tmp_path / "t.parquet")
    wanted = ['{"a":{"b":"x"}}', f'{{"v":{text},"a":{{"b":"x"}}}}'] * 2
    assert ([event.decode() for event in region.events], damage, region.unreadable) == (wanted, "", {})


@each(
    "kind, value, why",
    [
        (pa.float64(), float("nan"), "column v: nan is a number that JSON has not"),
        (pa.float32(), float("-inf"), "column v: -inf is a number"),
        (pa.list_(pa.float64()), [1.0, float("inf")], "column v: inf is a number"),
        (pa.struct([("x", pa.float64())]), {"x": float("nan")}, "column v: nan is"),
        (MAP, [("a", 1.0), ("a", 2.0)], "column v: a map in which a key is twice"),
        (pa.timestamp("s", "UTC"), 2**50, "column v: a time in no year from 1 to 9999"),
        (pa.date32(), 2**30, "column v: a day 1073741824 days from 1970"),
    ],
)
def test_a_value_that_json_has_not_costs_its_row(kind: Any, value: object, why: str, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"v": pa.array([None, value, None], kind), "id": ["1", "2", "3"]}), tmp_path / "t"
    )
    (region,), damage = regions_from(tmp_path / "t")
    assert (list(region.unreadable), damage) == ([1], "")
    assert region.unreadable[1].startswith(f"row 2: {why}")
    assert [msgspec.json.decode(event)["id"] for event in region.events] == ["1", "2", "3"]


@each(
    "columns, why",
    [
        ({"v": pa.array([b"x"])}, "its column 'v' is of the type binary, which JSON has not: leave it out"),
        ({"v": pa.array([[b"x"]])}, "its column 'v' is of the type binary"),
        ({"v": pa.array([timedelta(1)])}, "its column 'v' is of the type duration[us], which is not read"),
        ({"v": pa.array([[(1, "x")]], pa.map_(pa.int8(), pa.string()))}, "a map with keys of the type int8"),
        ({"v": pa.array([1]), "v.x": pa.array([1])}, "its column 'v' is a value, and an object"),
        ({"v": pa.array([None], DEEP)}, "is nested deeper than 64"),
        ({}, "it has no columns"),
    ],
)
def test_columns_that_json_has_not_are_refused_by_name(
    columns: dict[str, Any], why: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(Unusable) as refused:
        regions_from(tmp_path / "t.parquet")
    assert why in str(refused.value)


def rows_in(path: Path, count: int, group: int) -> list[bytes]:
    table = pa.table({"id": range(count), "note": ["n" * (i % 90) for i in range(count)]})
    pq.write_table(table, path, group, write_page_checksum=True, compression="none", use_dictionary=False)
    return [msgspec.json.encode(row) for row in table.to_pylist()]


def test_rows_are_cut_the_same_from_any_region_on_whatever_their_row_groups(tmp_path: Path) -> None:
    rows = rows_in(tmp_path / "large", 3000, 3000)
    rows_in(tmp_path / "small", 3000, 7)
    regions, damage = regions_from(tmp_path / "large", chunk=20_000)
    assert (events_of(regions), damage, len(regions)) == (rows, "", 10)
    assert outline(regions_from(tmp_path / "small", chunk=20_000)[0]) == outline(regions)
    for path in ("large", "small"):
        for at in (1, 6, 9):
            again = regions_from(tmp_path / path, regions[at].start, chunk=20_000)[0]
            assert outline(again) == outline(regions[at:])
    assert regions_from(tmp_path / "small", 3000) == ([], "")
    (region,) = regions_from(tmp_path / "small", 2999, most=20)[0]
    assert region.too_long == {0: len(rows[-1])}


def test_of_a_damaged_file_comes_what_is_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = rows_in(path, 1000, 100)
    about = pq.read_metadata(path).row_group(6).column(1)
    data = bytearray(path.read_bytes())
    data[about.data_page_offset + about.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    regions, damage = regions_from(path, chunk=10_000)
    assert events_of(regions) == rows[:600]
    assert damage.startswith("it cannot be read behind row 600 (in row group 7 of 10): ")
    path.write_bytes(data[:-100])
    with pytest.raises(Unusable, match="its end, which says what is in it, cannot be read"):
        regions_from(path)
