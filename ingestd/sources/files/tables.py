"""Tables as inputs: CSV, and Parquet with the extra. JSON never comes here."""

import os
from functools import partial
from typing import Any, BinaryIO

from ingestd.core.chunk import MARK_BYTES, Chunk, Keeper, Mark
from ingestd.schemas.column_types import TypesAt
from ingestd.sources.files.columns import Columns, Unusable
from ingestd.sources.files.csv_rows import CsvRows
from ingestd.sources.files.formats import PARQUET, TableKind, other_format
from ingestd.sources.files.jsonl import JsonSource
from ingestd.sources.files.splitter import Damaged, Region, Splitter
from ingestd.sources.files.streams import BOM, PeekableStream

_NO_PIPE = "Parquet is read from its end, which a pipe does not have yet: write it to a file first"


class TableSource(JsonSource):
    """A row is an event. ``types_at``: of the schema; ``delimiter``: of CSV; the rest: see ``JsonSource``."""

    def __init__(
        self, path: str, kind: TableKind, *, types_at: TypesAt, delimiter: str = ",", **options: Any
    ) -> None:
        super().__init__(path, **options)
        self._given = {"types_at": types_at, "delimiter": delimiter, **options}
        self._kind = kind
        self._types_at = types_at
        self._delimiter = delimiter
        self._rows: Any = None
        self._footer: Mark | None = None
        self._file: BinaryIO | None = None

    @property
    def plain_size(self) -> int | None:
        """A position in Parquet is no byte."""
        return None if self._kind == "parquet" else super().plain_size

    @property
    def bytes_read(self) -> int:
        """Of Parquet the share of its rows."""
        if self._kind == "parquet":
            return self._input.size * self._rows.reached[0] // (self._rows.count or 1) if self._rows else 0
        return super().bytes_read

    def _again(self) -> JsonSource:
        return TableSource(self.path, self._kind, **self._given)

    def close(self) -> None:
        if self._file:
            self._file.close()
        super().close()

    def _chunk(self, region: Region) -> Chunk:
        chunk = super()._chunk(region)
        chunk.size_bytes = sum(map(len, chunk.events))  # names stand in each of them
        if self._footer:
            chunk.mark = self._footer
        return chunk

    def _open(self, start: int, line: int) -> Splitter:
        try:
            if self._items or self._unwrap:
                raise Unusable("--items and --unwrap are for JSON")
            return self._open_parquet(start) if self._kind == "parquet" else self._open_csv(start, line)
        except Unusable as error:
            self.foreign = f"it cannot be read as {'Parquet' if self._kind == 'parquet' else 'CSV'}: {error}"
            raise Damaged(self.foreign) from None

    def _open_parquet(self, start: int) -> Splitter:
        from ingestd.sources.files.parquet_rows import ParquetRows  # pyarrow takes its time

        if self.keeper is not Keeper.SOURCE:
            raise Unusable(_NO_PIPE)
        self._peekable = PeekableStream(self._input)  # nothing is read of it
        if self._input.peek(len(PARQUET))[: len(PARQUET)] != PARQUET:
            raise Unusable("its first bytes are others; a packed one has to be unpacked first")
        size = min(self._input.size, MARK_BYTES)
        file = self._file = self._input.reopened()
        self._footer = self._input.size, os.pread(file.fileno(), size, self._input.size - size)
        self._rows = rows = ParquetRows(
            file,
            self._types_at,
            start=start,
            chunk_bytes=self.chunk_bytes,
            max_event_bytes=self._max_event_bytes,
        )
        return rows

    def _open_csv(self, start: int, line: int) -> Splitter:
        stream, peekable, packed = self._inflated()
        head = peekable.peek()
        if other := other_format(head, packed=packed, is_csv=True):
            raise Unusable(other)
        if head.removeprefix(BOM).lstrip()[:1] in (b"{", b"["):
            raise Unusable("it begins as JSON does")
        mark = len(BOM) if head.startswith(BOM) else 0
        peekable.discard(mark)
        rows = CsvRows(
            peekable,
            start=mark,
            make_columns=partial(Columns, types_at=self._types_at),
            delimiter=self._delimiter,
            chunk_bytes=self.chunk_bytes,
            max_event_bytes=self._max_event_bytes,
            keeps=self.keeper is Keeper.SOURCE,
        )
        rows.begin()
        if start > rows.reached[0]:
            if self.keeper is Keeper.SOURCE and self._plain:
                self._input.jump(start)
                self._peekable = PeekableStream(stream)
                rows.go_on(self._peekable, start, line)
            else:
                peekable.discard(rows.go_on(None, start, line))
        return rows
