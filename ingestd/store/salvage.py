"""A damaged state file is copied into a new one: every row on a page that can be read, under the number that
it had.

What the other rows said decides what may still be sent (``doubts.py``). Decision 023 has the reasons."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from ingestd.store import doubts
from ingestd.store.connection import MAP_NAME, VERSION, StoreFailed, make_format, migrate, text_of
from ingestd.store.page_rows import RawRow, StoredText, TableRows, Value
from ingestd.store.pages import ROOT, PageFile
from ingestd.store.state_map import StateMap

_ROWS = 256


class Salvaged(msgspec.Struct):
    """``lost``: tables of which rows are, or may be, gone. ``rows``: how many were read of each. ``before``:
    what was counted of letters in another table."""

    lost: set[str]
    rows: Counter[str]
    letters_before: int | None = None
    outcome: doubts.Consequences = msgspec.field(default_factory=doubts.Consequences)

    def words(self) -> list[str]:
        """What is gone, and what follows."""
        found = self.outcome.words
        if _LETTERS & self.lost and self.lost_letters != 0:
            found = [*found, self._words_of_letters()]
        found += [words for table, words in _WORDS.items() if table in self.lost]
        return found or ["nothing is lost: what cannot be read is made from the rest"]

    @property
    def lost_letters(self) -> int | None:
        """None: it is not known."""
        there = sum(self.rows[table] for table in _LETTERS)
        return None if self.letters_before is None else max(0, self.letters_before - there)

    def _words_of_letters(self) -> str:
        lost = self.lost_letters
        return f"{'an unknown number of' if lost is None else lost} dead letters are gone"


_LETTERS = {"single_letters", "sealed_letters", "letters"}
"""The last was the name of the first before format 8."""

_WORDS = {
    "window": "keys of the deduplication window may be gone: copies of these events are not recognised",
    "confirmations": "events that an API accepted and did not confirm may be gone: it is not asked",
    "outbox": "events that waited for a file of the lake may be gone",
    "trail": "`ingestd where` may not know some events any more",
    "meta": "settings of the store are as they were half a minute or less before its last end",
    "spool_damage": "the list of damaged chunks is not whole",
}


class Beside(NamedTuple):
    """What is kept beside the state file: the map, and what the mark says."""

    map: StateMap | None
    commits: int
    high_water: int


def salvage(
    source: Path, log: Path, into: Path, beside: Beside, *, report: Callable[[], None], now: float
) -> Salvaged:
    """Make ``into``, which is whole, of ``source`` and its log. ``report`` is called when that begins. Raises
    StoreFailed: nothing of it can be read; OSError, sqlite3.Error: there is no room."""
    file = PageFile(source, log)
    with closing(sqlite3.connect(into, isolation_level=None)) as new:
        try:
            version, roots = _find_tables(file, beside.map)
            new.text_factory = text_of
            new.executescript(
                "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            )
            make_format(new, version)
            new.execute("BEGIN IMMEDIATE")
            found = _copy(file, roots, new, report)
            _mend_counts(new, found, beside)
            new.execute("COMMIT")
            migrate(new, version)
            new.execute("BEGIN IMMEDIATE")
            found.outcome = doubts.settle(new, found.lost, now)
            new.execute("COMMIT")
        finally:
            file.close()
    return found


def _find_tables(file: PageFile, known: StateMap | None) -> tuple[int, dict[str, int]]:
    """(format, table -> its first page). Raises StoreFailed."""
    schema = TableRows(file, 1)
    found = {
        str(bytes(row.values[1]), "utf-8", "replace"): row.values[3]
        for row in schema
        if len(row.values) == 5 and row.values[0] == b"table" and isinstance(row.values[1], bytes)
    }
    roots = {name: root for name, root in found.items() if isinstance(root, int)}
    if file.head and not schema.lost_pages and not schema.lost_rows:
        version = file.version
    elif known:
        version, roots = known.version, known.roots
        roots = {name: root for name, root in roots.items() if file.kind(root) in (0, ROOT)}
    else:
        raise StoreFailed(
            f"its first page, which says where all else is, cannot be read, and there is no {MAP_NAME}"
        )
    if not 0 < version <= VERSION or "meta" not in roots:
        raise StoreFailed("it has no tables of ingestd")
    return version, roots


class _Table(msgspec.Struct):
    """``blobs``: which columns hold bytes; ``number``: the column that is the row's number, or -1."""

    name: str
    blobs: list[bool]
    defaults: list[Value | str]
    number: int

    def values(self, row: RawRow) -> list[Value | str] | None:
        """As they are bound to a statement. A row from before a column was added has its default."""
        if len(row.values) > len(self.blobs):
            return None
        values: list[Value | str] = []
        for value, is_blob in zip(row.values, self.blobs, strict=False):
            if isinstance(value, StoredText):
                values.append(self._text(value) if not is_blob or self.name == "meta" else bytes(value))
            else:
                values.append(value)
        values += self.defaults[len(values) :]
        if self.number >= 0:
            values[self.number] = row.number
        return values

    def _text(self, value: StoredText) -> str | bytes:
        """One flipped bit makes a BLOB a TEXT. In ``meta`` a value is either, and the secret, the one of
        random bytes, is no UTF-8."""
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError:
            return bytes(value) if self.name == "meta" else str(value, "utf-8", "replace")


def _tables(new: sqlite3.Connection) -> Iterator[_Table]:
    for name, sql in new.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall():
        columns = new.execute(f"PRAGMA table_info({name})").fetchall()
        numbers = [at for at, (_, _, kind, _, _, key) in enumerate(columns) if key and kind == "INTEGER"]
        defaults = [new.execute(f"SELECT {column[4] or 'NULL'}").fetchone()[0] for column in columns]
        number = numbers[0] if numbers and "WITHOUT ROWID" not in sql else -1
        yield _Table(name, [column[2] == "BLOB" for column in columns], defaults, number)


def _copy(
    file: PageFile, roots: dict[str, int], new: sqlite3.Connection, report: Callable[[], None]
) -> Salvaged:
    if not any(TableRows(file, root).begins for root in roots.values()):
        raise StoreFailed("nothing of it can be read")
    report()
    triggers = new.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        new.execute(f"DROP TRIGGER {name}")
    lost: set[str] = set()
    count = Counter[str]()
    for table in _tables(new):
        new.execute(f"DELETE FROM {table.name}")  # noqa: S608 - our own schema
        marks = ", ".join("?" * len(table.blobs))
        insert = f"INSERT OR IGNORE INTO {table.name} VALUES ({marks})"  # noqa: S608 - our own schema
        rows, is_whole, pending = TableRows(file, roots.get(table.name, 0)), True, list[list[Value | str]]()
        given = 0
        for row in rows:
            values = table.values(row)
            is_whole = is_whole and row.whole and values is not None
            if values is not None:
                pending.append(values)
                given += 1
            if len(pending) >= _ROWS:
                new.executemany(insert, pending)
                pending.clear()
        new.executemany(insert, pending)
        (count[table.name],) = new.execute(f"SELECT count(*) FROM {table.name}").fetchone()  # noqa: S608
        if not is_whole or rows.lost_pages or rows.lost_rows or count[table.name] < given:
            lost.add(table.name)
    for _, sql in triggers:
        new.execute(sql)
    return Salvaged(lost, count)


def _mend_counts(new: sqlite3.Connection, found: Salvaged, beside: Beside) -> None:
    """What is counted of other rows, and what is kept beside the file."""
    if "meta" in found.lost and beside.map:
        new.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", beside.map.meta)
    new.execute("INSERT OR IGNORE INTO meta VALUES ('commits', ?)", (beside.commits,))
    columns = {name for (name,) in new.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if "spool_totals" in columns and (
        "spool_totals" in found.lost or new.execute("SELECT count(*) FROM spool_totals").fetchone() != (1,)
    ):
        found.lost.add("spool_totals")
        new.execute("DELETE FROM spool_totals")
        new.execute(
            "INSERT INTO spool_totals SELECT count(*), coalesce(sum(events), 0), coalesce(sum(bytes), 0),"
            " max(coalesce(max(id), 0), ?) + 1 FROM spool",
            (beside.high_water,),
        )
    if "letter_counts" in columns:
        if "letter_counts" not in found.lost:
            (found.letters_before,) = new.execute(
                "SELECT coalesce(sum(letters), 0) FROM letter_counts"
            ).fetchone()
        new.execute("DELETE FROM letter_counts")
        new.execute("INSERT INTO letter_counts VALUES ('waiting', 0), ('leased', 0), ('delivered', 0)")
        single = "single_letters" if "single_letters" in columns else "letters"
        by_state = f"SELECT state, count(*) FROM {single} GROUP BY state"  # noqa: S608 - our own schema
        new.execute(f"INSERT OR REPLACE INTO letter_counts {by_state}")
    if "sealed_letters" in columns:
        new.execute(
            "UPDATE letter_counts SET letters = letters + (SELECT count(*) FROM sealed_letters)"
            " WHERE state = 'waiting'"
        )
        _number_on(new)


def _number_on(new: sqlite3.Connection) -> None:
    """No later letter has the number of one that was there, as far as that is known."""
    (last,) = new.execute(
        "SELECT coalesce(max(number), 0) FROM (SELECT max(seq) AS number FROM sqlite_sequence"
        " UNION ALL SELECT max(id) FROM single_letters UNION ALL SELECT max(id) FROM sealed_letters)"
    ).fetchone()
    new.execute("DELETE FROM sqlite_sequence")
    new.execute("INSERT INTO sqlite_sequence VALUES ('single_letters', ?)", (last,))
