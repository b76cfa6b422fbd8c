"""The rows of a table in a damaged state file: all that are on pages which can be read."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ingestd.store.pages import NEXT_OVERFLOW, TREE, PageFile

_INNER_TABLE, _INNER_INDEX, _LEAF_TABLE, _LEAF_INDEX = 5, 2, 13, 10
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class StoredText(bytes):
    """What was stored as a text: as it stands, which may be no UTF-8."""


Value = int | float | bytes | StoredText | None


class RawRow(NamedTuple):
    """``whole``: all of it is as it was written, as far as can be told without its own checksum."""

    number: int
    values: list[Value]
    whole: bool


class TableRows(msgspec.Struct):
    """Reads the tree of one table. ``lost_pages``: those of which nothing is left, of which some may have
    held no row; ``lost_rows``: single ones that cannot be read although their page can."""

    file: PageFile
    root: int
    lost_pages: int = 0
    lost_rows: int = 0
    pages: int = 0
    _seen: set[int] = msgspec.field(default_factory=set)

    @property
    def begins(self) -> bool:
        """Its first page can be read."""
        return _cells(self.file.page(self.root), self.root) is not None

    def __iter__(self) -> Iterator[RawRow]:
        """In their order. Not a recursion: a damaged file may hang pages on each other as it likes."""
        ahead = [self.root]
        while ahead:
            number = ahead.pop()
            if number in self._seen:
                continue
            self._seen.add(number)
            page = self.file.page(number)
            cells = _cells(page, number)
            if cells is None:
                self.lost_pages += 1
                ahead += sorted(self.file.hanging_on(number, TREE), reverse=True)
                continue
            self.pages += 1
            head = 100 if number == 1 else 0
            kind = page[head]
            if kind in (_INNER_TABLE, _INNER_INDEX):
                children = [struct.unpack(">I", page[at : at + 4])[0] for at in cells]
                children.append(struct.unpack(">I", page[head + 8 : head + 12])[0])
                ahead += reversed(children)
            if kind != _INNER_TABLE:
                for at in cells:
                    if row := self._row(page, at, kind):
                        yield row
                    else:
                        self.lost_rows += 1

    def _row(self, page: bytes, at: int, kind: int) -> RawRow | None:
        try:
            at += 4 if kind == _INNER_INDEX else 0
            size, at = _varint(page, at)
            number = 0
            if kind == _LEAF_TABLE:
                number, at = _varint(page, at)
                number -= (number >> 63) << 64
            content, whole = self._payload(page, at, size, is_table=kind == _LEAF_TABLE)
            return RawRow(number, _values(content), whole)
        except (IndexError, struct.error, ValueError):
            return None

    def _payload(self, page: bytes, at: int, size: int, *, is_table: bool) -> tuple[bytes, bool]:
        """What does not fit on its page goes on in a chain of others."""
        usable = self.file.usable
        if size > self.file.pages * usable:
            raise ValueError
        most = usable - 35 if is_table else (usable - 12) * 64 // 255 - 23
        if size <= most:
            if at + size > usable:
                raise ValueError
            return page[at : at + size], True
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= most else least
        parts, left, whole = [page[at : at + local]], size - local, True
        following: int = struct.unpack(">I", page[at + local : at + local + 4])[0]
        while left > 0:
            content = self.file.page(following) if following else b""
            part = content[4 : 4 + min(left, usable - 4)].ljust(min(left, usable - 4), b"\0")
            parts.append(part)
            left -= len(part)
            after: int = struct.unpack(">I", content[:4])[0] if content else 0
            if not any(content):
                whole = False
                self.lost_pages += 1
                after = next(self.file.hanging_on(following, NEXT_OVERFLOW), 0) if following else 0
            following = after
        return b"".join(parts), whole


def _cells(page: bytes, number: int) -> list[int] | None:
    """Where its cells begin; None: this is no page of a tree."""
    head = 100 if number == 1 else 0
    if len(page) < 512 or page[head] not in (_INNER_TABLE, _INNER_INDEX, _LEAF_TABLE, _LEAF_INDEX):
        return None
    count: int = struct.unpack(">H", page[head + 3 : head + 5])[0]
    begin = head + (12 if page[head] in (_INNER_TABLE, _INNER_INDEX) else 8)
    if begin + 2 * count > len(page):
        return None
    cells = [*struct.unpack(f">{count}H", page[begin : begin + 2 * count])]
    return cells if all(begin + 2 * count <= at < len(page) - 3 for at in cells) else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(the number, where it ends)."""
    number = 0
    for end in range(at, at + 8):
        byte = data[end]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, end + 1
    return number << 8 | data[at + 8], at + 9


def _values(content: bytes) -> list[Value]:
    """Raises ValueError, IndexError."""
    head_bytes, at = _varint(content, 0)
    kinds: list[int] = []
    while at < head_bytes:
        kind, at = _varint(content, at)
        kinds.append(kind)
    values: list[Value] = []
    for kind in kinds:
        size = _INTEGERS.get(kind, 8 if kind == 7 else (kind - 12) // 2 if kind >= 12 else 0)
        part = content[at : at + size]
        if len(part) != size or kind in (10, 11):
            raise ValueError
        if kind >= 12:
            values.append(StoredText(part) if kind % 2 else part)
        elif kind == 7:
            values.append(struct.unpack(">d", part)[0])
        elif kind == 0:
            values.append(None)
        else:
            values.append(kind - 8 if kind >= 8 else int.from_bytes(part, "big", signed=True))
        at += size
    if at != len(content):
        raise ValueError
    return values
