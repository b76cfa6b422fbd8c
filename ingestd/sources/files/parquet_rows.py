"""The rows of a Parquet file as events, in bounded memory. Needs the extra ``parquet`` (pyarrow).

A position is the number of a row, from 0. A region takes rows until their events have ``chunk_bytes``, so
that it depends on its start alone, whatever the row groups and batches are that they were read in.
"""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ingestd.core.text import cut
from ingestd.schemas.column_types import TypesAt
from ingestd.sources.files.arrow_values import values_of
from ingestd.sources.files.columns import Columns, Unusable
from ingestd.sources.files.splitter import KEPT_OF_TOO_LONG, Damaged, Region, UnfinishedValue

_BUFFER_BYTES = 256 * 1024
_MOST_ROWS = 64
"""Of a batch, whose columns are decoded together. A long value that is there once, and meant in each row, is
in memory as often: with 1,024 rows a file of 60 kB took 2.7 GB."""
_FAULTS = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)


class ParquetRows:
    """``file`` can be sought in, and stays the caller's. Raises Unusable where it has no footer, or columns
    that JSON has no values for."""

    half: UnfinishedValue | None = None

    def __init__(
        self, file: BinaryIO, types_at: TypesAt, *, start: int, chunk_bytes: int, max_event_bytes: int
    ) -> None:
        try:
            self._file = pq.ParquetFile(
                file,
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,  # else a column is read whole, as far as its row group goes
                page_checksum_verification=True,
            )
            schema = self._file.schema_arrow
        except _FAULTS as error:
            raise Unusable(f"its end, which says what is in it, cannot be read: {_words(error)}") from None
        if not schema.names:
            raise Unusable("it has no columns")
        self._values = [values_of(field.type, field.name) for field in schema]
        self._columns = Columns(schema.names, types_at)
        self._chunk_bytes = chunk_bytes
        self._max_event_bytes = max_event_bytes
        self._row = start
        self._events = self._read(start)
        self._damage: Damaged | None = None

    @property
    def reached(self) -> tuple[int, int]:
        return self._row, self._row + 1

    @property
    def count(self) -> int:
        """Rows of the file, as it says."""
        return int(self._file.metadata.num_rows)

    def next_region(self) -> Region | None:
        """Raises Damaged for what is behind the rows that were given."""
        start, events, size = self._row, list[bytes](), 0
        unreadable, too_long = dict[int, str](), dict[int, int]()
        while size < self._chunk_bytes and (found := self._next()):
            event, why = found
            size += len(event)
            if why:
                unreadable[len(events)] = f"row {start + len(events) + 1}: {why}"
            if len(event) > self._max_event_bytes:
                too_long[len(events)] = len(event)
                event = event[:KEPT_OF_TOO_LONG]
            events.append(event)
        if not events:
            if self._damage:
                raise self._damage
            return None
        self._row = end = start + len(events)
        return Region(
            events,
            start,
            end,
            start + 1,
            lambda index: (start + index, start + index + 1),
            too_long,
            end + 1,
            unreadable=unreadable,
        )

    def _next(self) -> tuple[bytes, str] | None:
        if self._damage:
            return None
        try:
            return next(self._events, None)
        except Damaged as damage:
            self._damage = damage
            return None

    def _read(self, start: int) -> Iterator[tuple[bytes, str]]:
        """From a row on. Of its row group what comes before is decoded, and not used."""
        row, metadata = 0, self._file.metadata
        for group in range(metadata.num_row_groups):
            count = metadata.row_group(group).num_rows
            if row + count <= start:
                row += count
                continue
            end = row + count
            try:
                for batch in self._file.iter_batches(
                    self._batch_rows(group), row_groups=[group], use_threads=False
                ):
                    skipped = min(max(0, start - row), batch.num_rows)
                    cells = [
                        values(column.slice(skipped))
                        for values, column in zip(self._values, batch.columns, strict=True)
                    ]
                    row += skipped
                    for one in zip(*cells, strict=True):
                        yield self._columns.event(one)
                        row += 1
            except _FAULTS as error:
                raise Damaged(
                    f"it cannot be read behind row {row} (in row group {group + 1} of"
                    f" {metadata.num_row_groups}): {_words(error)}"
                ) from None
            if row != end:
                raise Damaged(f"row group {group + 1} ends behind row {row}, and was to end behind row {end}")

    def _batch_rows(self, group: int) -> int:
        """As many rows as make some chunks, by what the file says of their size."""
        about = self._file.metadata.row_group(group)
        each = about.total_byte_size // max(1, about.num_rows) or 1
        return max(1, min(_MOST_ROWS, 4 * self._chunk_bytes // each))


def _words(error: BaseException) -> str:
    return cut(str(error).partition("\n")[0], 200) or type(error).__name__
