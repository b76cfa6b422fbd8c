"""CSV cut into rows: where each begins, what it is as an event, and the same from any region on."""

import csv
import io
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.schemas.column_types import ANY, Types, column_types, types_at
from ingestd.sources.files.columns import Columns, Unusable
from ingestd.sources.files.csv_rows import CsvRows
from tests.each import each
from tests.unit.sources.files.memory import Memory, events_of, outline, regions_of

TYPES = {
    "n": frozenset({"integer", "number", "null"}),
    "b": frozenset({"boolean"}),
    "o": frozenset({"object", "array"}),
}
TABLE = b"id,n,b,o,a.x,a.y\n"


def typed(path: Sequence[str]) -> Types:
    return TYPES.get(path[0], ANY)


def opened(
    data: bytes,
    sizes: Sequence[int] = (1 << 20,),
    *,
    start: int = 0,
    line: int = 1,
    chunk: int = 1 << 18,
    most: int = 1 << 20,
    keeps: bool = True,
    cut: bool = False,
) -> CsvRows:
    rows = CsvRows(
        memory := Memory(data, sizes, cut=cut),
        start=0,
        make_columns=lambda names: Columns(names, typed),
        delimiter=",",
        chunk_bytes=chunk,
        max_event_bytes=most,
        keeps=keeps,
    )
    rows.begin()
    if start > rows.reached[0]:
        passed = rows.go_on(None, start, line)
        while passed:
            passed -= len(memory.read(passed))
    return rows


CELLS = st.text(st.sampled_from('ab,"\n\r é'), max_size=6)


@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=2).filter(any), max_size=12),
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.integers(1, 60),
    st.booleans(),
)
def test_rows_are_those_of_the_csv_module_and_are_cut_the_same_from_any_region_on(
    table: list[list[str]], sizes: list[int], chunk: int, keeps: bool
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([["id", "name"], *table])
    data = text.getvalue().encode()
    regions, damage = regions_of(opened(data, sizes, chunk=chunk, keeps=keeps))
    wanted = [{name: cell for name, cell in zip(("id", "name"), row, strict=True) if cell} for row in table]
    assert ([msgspec.json.decode(event) for event in events_of(regions)], damage) == (wanted, "")
    for region in regions:
        for index in range(len(region.events)):
            offset, line = region.locate(index)
            assert data[:offset].count(b"\n") == line - 1
    if keeps:
        for at, region in enumerate(regions):
            again = regions_of(opened(data, sizes, start=region.start, line=region.line, chunk=chunk))[0]
            assert outline(again) == outline(regions[at:])
            assert all(data[: one.end].endswith(one.tail) for one in again)


@each(
    "row, event",
    [
        (b"007,1.50,TRUE,{},,", b'{"id":"007","n":1.50,"b":true,"o":{}}'),
        (b'1,12345678901234567890,,"[1, ""a""]",,', b'{"id":"1","n":12345678901234567890,"o":[1, "a"]}'),
        (b"x,null,,,p,q", b'{"id":"x","n":null,"a":{"x":"p","y":"q"}}'),
        (b"true,-0.0e+7,,,,null", b'{"id":"true","n":-0.0e+7,"a":{"y":"null"}}'),
        (b"5,007,yes,{1},,", b'{"id":"5","n":"007","b":"yes","o":"{1}"}'),
        (b'"a ""b""\r\nc","",,,,', b'{"id":"a \\"b\\"\\r\\nc"}'),
        (b'5" pipe, 1,,,,', b'{"id":"5\\" pipe","n":" 1"}'),
        ("é,,,,,".encode(), '{"id":"é"}'.encode()),
    ],
)  # fmt: skip
def test_a_cell_is_what_the_schema_says_and_else_text(row: bytes, event: bytes) -> None:
    assert events_of(regions_of(opened(TABLE + row + b"\n"))[0]) == [event]


@each(
    "row, why",
    [
        (b"1,2", "line 2: the row has 2 cells, and the header 6"),
        (b"1,2,3,4,5,6,7", "line 2: the row has 7 cells, and the header 6"),
        (b'1,"2"3,,,,', "line 2: it is not a row of CSV: ',' expected after '\"'"),
        (b"1\r2,,,,,", "line 2: a carriage return stands in a cell without quotes"),
        (b"1,,,,Gr\xf6\xdfe,", "line 2: column a.x: not UTF-8"),
    ],
)
def test_a_row_that_is_no_event_says_why_and_costs_itself(row: bytes, why: str) -> None:
    (region,), damage = regions_of(opened(TABLE + row + b"\n9,,,,,\n"))
    assert (region.unreadable, damage) == ({0: why}, "")
    assert region.events == [row + b"\n", b'{"id":"9"}']


@each(
    "data, keeps, events, half, damage",
    [
        (b"a,b\n1,2\n3,4", True, [b'{"a":"1","b":"2"}', b'{"a":"3","b":"4"}'], None, ""),
        (b"a,b\n1,2\n3", True, [b'{"a":"1","b":"2"}'], (8, 3, 1), ""),
        (b"a,b\n1,2\n3", False, [b'{"a":"1","b":"2"}', b"3"], None, ""),
        (b'a,b\n1,2\n3,"4\n', True, [b'{"a":"1","b":"2"}'], None, "the row at byte 8 (line 3): a quote"),
        (b'a,b\n1,2\n3,"4\n', False, [b'{"a":"1","b":"2"}', b'3,"4\n'], None, ""),
        (b"a,b\r\n\r\n1,2\r\n\n", True, [b'{"a":"1","b":"2"}'], None, ""),
        (b"a,b", True, [], None, ""),
        (b"", True, [], None, ""),
    ],
)  # fmt: skip
def test_how_it_ends(
    data: bytes, keeps: bool, events: list[bytes], half: tuple[int, int, int] | None, damage: str
) -> None:
    rows = opened(data, keeps=keeps)
    regions, said = regions_of(rows)
    assert events_of(regions) == events
    assert rows.half == half
    assert said.startswith(damage)
    assert bool(said) == bool(damage)


def test_of_an_archive_that_was_cut_off_the_last_row_is_left() -> None:
    assert events_of(regions_of(opened(b"a,b\n1,2\n3,4", cut=True))[0]) == [b'{"a":"1","b":"2"}']


def test_a_row_over_the_limit_costs_itself_and_its_quotes_are_followed() -> None:
    long = b'x,"' + b'a""\n' * 400 + b'"\n'
    data = b"a,b\n1,2\n" + long + b"3,4\n"
    regions, damage = regions_of(opened(data, chunk=100, most=1000))
    assert damage == ""
    assert [list(region.too_long.values()) for region in regions] == [[], [len(long)], []]
    assert (regions[2].locate(0), regions[2].events) == ((data.index(b"3,4"), 404), [b'{"a":"3","b":"4"}'])
    damage = regions_of(opened(data.replace(b'"\n3', b"\n3"), chunk=100, most=1000))[1]
    assert "(line 3) is longer than 1000 bytes, and a quote in it has no end" in damage


@each(
    "header, why",
    [
        (b"a,a\n", "two of its columns are named 'a'"),
        (b"a,,b\n", "its column 2 has no name"),
        (b"a..b,c\n", "its column 1 has no name, or an empty part"),
        (b"a" + b".a" * 64 + b",b\n", "the name of its column 1 has more than 64 parts"),
        (b"a.b,a\n", "its column 'a' is a value, and an object"),
        (b"a,b\rc,d\r", "a carriage return stands in a cell without quotes"),
        (b"a,\xf6\n", "the name of its column 2 is not text"),
        (b'a,"b\n', "a quote opens in it that has no end"),
        (b"a" * 3000, "no header ends within 1000 bytes"),
    ],
)
def test_a_header_that_names_no_columns_is_refused(header: bytes, why: str) -> None:
    with pytest.raises(Unusable) as refused:
        opened(header, chunk=100, most=1000)
    assert why in str(refused.value)


def test_a_schema_says_which_types_a_path_may_have() -> None:
    document = {
        "$defs": {"n": {"type": ["number", "null"]}, "loop": {"allOf": [{"$ref": "#/$defs/loop"}]}},
        "properties": {
            "n": {"$ref": "#/$defs/n"},
            "either": {"anyOf": [{"type": "integer"}, {"const": True}]},
            "both": {"allOf": [{"type": ["integer", "string"]}, {"enum": [1, 2]}]},
            "in": {"properties": {"flag": {"type": "boolean"}}, "additionalProperties": {"type": "array"}},
            "loop": {"$ref": "#/$defs/loop"},
        },
    }
    found = {
        path: set(types_at([document], path.split(".")))
        for path in ("n", "either", "both", "in.flag", "in.other", "loop", "unknown")
    }
    assert found == {
        "n": {"number", "integer", "null"},
        "either": {"integer", "boolean"},
        "both": {"integer"},
        "in.flag": {"boolean"},
        "in.other": {"array"},
        "loop": set(ANY),
        "unknown": set(ANY),
    }
    assert column_types("interaction")(["schemaVersion"]) == {"integer"}
    assert column_types("interaction")(["routingMetadata", "queueId"]) == {"string"}
    assert column_types("cloudevent")(["source"]) == {"string"}
    assert column_types("/nowhere.json")(["n"]) == ANY
