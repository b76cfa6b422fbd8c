"""Arrow's values as JSON has them: times in RFC 3339, decimals with their digits. Used by ``parquet_rows``.

What JSON has no value for is refused: of a column when the file is opened, of a cell as ``BadCell``.
"""

import math
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from itertools import accumulate, pairwise
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa

from ingestd.core.text import cut
from ingestd.sources.files.columns import MOST_LEVELS, BadCell, Unusable

ReadValues = Callable[[Any], list[Any]]
"""Of an array: a value each, None where there is none, a ``BadCell`` where JSON has none."""

_UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""Digits of a fraction of a second."""
_EPOCH = date(1970, 1, 1).toordinal()
_DAY_S = 86_400
_types = pa.types


def values_of(kind: Any, name: str, level: int = 0) -> ReadValues:
    """For columns of this type. Raises Unusable, with ``name``."""
    if level > MOST_LEVELS:
        raise Unusable(f"its column {cut(name, 60)!r} is nested deeper than {MOST_LEVELS}")
    if isinstance(kind, pa.BaseExtensionType):
        is_uuid = kind.extension_name == "arrow.uuid"
        inside = _uuids if is_uuid else values_of(kind.storage_type, name, level + 1)
        return lambda array: inside(array.storage)
    if _types.is_dictionary(kind):
        decoded = values_of(kind.value_type, name, level + 1)
        return lambda array: decoded(array.dictionary_decode())
    if _types.is_nested(kind):
        return _nested(kind, name, level + 1)
    if found := _plain(kind):
        return found
    binary = "binary" in str(kind)
    hint = ", which JSON has not: leave it out, or store it as text" if binary else ", which is not read"
    raise Unusable(f"its column {cut(name, 100)!r} is of the type {kind}{hint}")


def _plain(kind: Any) -> ReadValues | None:
    if _types.is_string(kind) or _types.is_large_string(kind) or str(kind) == "string_view":
        return _texts
    if _types.is_boolean(kind) or _types.is_integer(kind) or _types.is_null(kind):
        return lambda array: array.to_pylist()
    if _types.is_floating(kind):
        return _floats
    if _types.is_decimal(kind):
        return lambda array: [
            None if one is None else msgspec.Raw(format(one, "f").encode()) for one in array.to_pylist()
        ]
    if _types.is_timestamp(kind):
        return partial(_times, digits=_UNITS[kind.unit], offset="Z" if kind.tz else "")
    if _types.is_date32(kind):
        return lambda array: _each(array.cast(pa.int32()), _day)
    if _types.is_date64(kind):
        return lambda array: _each(array.cast(pa.int64()), lambda ms: _day(ms // (_DAY_S * 1000)))
    if _types.is_time(kind):
        number = pa.int32() if _types.is_time32(kind) else pa.int64()
        return lambda array: _each(array.cast(number), partial(_clock, digits=_UNITS[kind.unit]))
    return None


def _each(array: Any, convert: Callable[[Any], Any]) -> list[Any]:
    return [None if one is None else convert(one) for one in array.to_pylist()]


def _texts(array: Any) -> list[Any]:
    try:
        return array.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        return _each(array.cast(pa.large_binary()), _text)


def _text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return BadCell("not UTF-8", data.decode("utf-8", "backslashreplace"))


def _uuids(array: Any) -> list[Any]:
    return _each(array, lambda data: str(UUID(bytes=data)))


def _floats(array: Any) -> list[Any]:
    values = array.cast(pa.float64()).to_pylist()
    return [
        one
        if one is None or math.isfinite(one)
        else BadCell(f"{one} is a number that JSON has not", str(one))
        for one in values
    ]


def _day(days: int) -> Any:
    try:
        return date.fromordinal(_EPOCH + days).isoformat()
    except (ValueError, OverflowError):
        return BadCell(f"a day {days} days from 1970, which is in no year from 1 to 9999", str(days))


def _clock(count: int, digits: int) -> str:
    """With a fraction of 3, 6 or 9 digits, where there is one."""
    second, fraction = divmod(count, 10**digits)
    text = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    while digits and fraction % 1000 == 0:
        fraction, digits = fraction // 1000, digits - 3
    return f"{text}.{fraction:0{digits}}" if digits else text


def _times(array: Any, digits: int, offset: str) -> list[Any]:
    """RFC 3339. A time of a zone is told in UTC; one of none has no offset, and is as it was written."""
    day = _DAY_S * 10**digits

    def time(count: int) -> Any:
        text = _day(count // day)
        if isinstance(text, BadCell):
            return BadCell("a time in no year from 1 to 9999", str(count))
        return f"{text}T{_clock(count % day, digits)}{offset}"

    return _each(array.cast(pa.int64()), time)


# --- lists, structs and maps ---


def _nested(kind: Any, name: str, level: int) -> ReadValues:
    if _types.is_struct(kind):
        inside = [(field.name, values_of(field.type, f"{name}.{field.name}", level)) for field in kind]
        return lambda array: _objects(array, inside)
    if _types.is_map(kind):
        if not (_types.is_string(kind.key_type) or _types.is_large_string(kind.key_type)):
            raise Unusable(
                f"its column {cut(name, 100)!r} is a map with keys of the type {kind.key_type}: the names in"
                " an object of JSON are text"
            )
        pairs = pa.list_(pa.struct([kind.key_field, kind.item_field]))
        entries = values_of(kind.item_type, name, level)
        return lambda array: _maps(array.cast(pairs), entries)
    if _types.is_list(kind) or _types.is_large_list(kind) or _types.is_fixed_size_list(kind):
        elements = values_of(kind.value_type, name, level)
        as_list = pa.list_(kind.value_type) if _types.is_fixed_size_list(kind) else kind
        return lambda array: _lists(array.cast(as_list), elements)
    raise Unusable(f"its column {cut(name, 100)!r} is of the type {kind}, which is not read")


def _bad_among(values: Sequence[Any]) -> BadCell | None:
    return next((one for one in values if isinstance(one, BadCell)), None)


def _objects(array: Any, inside: Sequence[tuple[str, ReadValues]]) -> list[Any]:
    """What is null in it is absent."""
    names = [name for name, _ in inside]
    columns = [values(one) for (_, values), one in zip(inside, array.flatten(), strict=True)]
    rows = zip(*columns, strict=True) if columns else [()] * len(array)
    found: list[Any] = []
    for there, row in zip(array.is_valid().to_pylist(), rows, strict=True):
        if not there:
            found.append(None)
        elif bad := _bad_among(row):
            found.append(bad)
        else:
            found.append({name: one for name, one in zip(names, row, strict=True) if one is not None})
    return found


def _lists(array: Any, elements: ReadValues) -> list[Any]:
    values = elements(array.flatten())
    return [
        None if not there else _bad_among(values[start:end]) or values[start:end]
        for there, start, end in _slices(array)
    ]


def _maps(array: Any, entries: ReadValues) -> list[Any]:
    keys, items = array.flatten().flatten()
    names, values = _texts(keys), entries(items)
    found: list[Any] = []
    for there, start, end in _slices(array):
        own = dict(zip(names[start:end], values[start:end], strict=True))
        bad = _bad_among([*own, *own.values()])
        if there and not bad and len(own) < end - start:
            bad = BadCell("a map in which a key is twice", "")
        found.append(bad or own if there else None)
    return found


def _slices(array: Any) -> list[tuple[bool, int, int]]:
    """(whether it is there, start, end) of each list, in what ``flatten`` gives."""
    lengths = array.value_lengths().to_pylist()
    ends = accumulate((length or 0 for length in lengths), initial=0)
    return [(length is not None, *span) for length, span in zip(lengths, pairwise(ends), strict=True)]
