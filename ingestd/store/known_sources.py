"""What the journal knows of sources that were read before: asked once, when they are opened."""

import sqlite3

from ingestd.store.database import Database
from ingestd.store.source_rows import (
    Beginning,
    Fingerprints,
    SourceState,
    add_source,
    find_source,
    find_stream,
    find_streams,
)


class KnownSources:
    """The journal's part of it. ``_positions``: by number, how far each is resolved, and its next line."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._positions: dict[int, tuple[int, int]] = {}

    async def find_file(
        self,
        path: str,
        *,
        identity: tuple[int, int],
        fingerprints: Fingerprints,
        size: int | None,
        from_start: bool,
        chunk_bytes: int = 0,
        now: float,
        begins: Beginning | None = None,
    ) -> SourceState:
        """The state of a file known by (device, inode), its head and what stands before its position, or of
        a new one. ``begins``: where a new one is read from, if not from its start; known with it or not at
        all.

        A file that has grown is compared by the head it had then. One that is shorter (``size``, where it is
        known) than its position, or holds something else before it, was written again, and counts as new.
        """

        def find(connection: sqlite3.Connection) -> SourceState:
            return find_source(
                connection,
                path,
                identity,
                fingerprints=fingerprints,
                size=size,
                from_start=from_start,
                chunk_bytes=chunk_bytes,
                now=now,
                begins=begins,
            )

        state = await self._database.run(find)
        self._positions[state.number] = (state.position, state.line)
        return state

    async def find_stream(
        self, path: str, identity: bytes, *, now: float, as_new: bool = False
    ) -> SourceState:
        """The state of a broker's stream with this name and identity; a new one if there is none, or with
        ``as_new``: the stream was made again, and its old positions mean nothing."""
        state = await self._database.run(lambda c: find_stream(c, path, identity, now, as_new=as_new))
        self._positions[state.number] = (state.position, state.line)
        return state

    async def streams(self, prefix: str) -> dict[int, tuple[str, int]]:
        """Numbers of the streams whose names begin so, each with its name and its position. Of those that
        have one name the last counts."""
        return await self._database.run(lambda c: find_streams(c, prefix))

    async def new_stream(self, path: str, *, now: float) -> SourceState:
        """A source that cannot be read again; its batches keep their events."""
        number = await self._database.run(lambda c: add_source(c, path, (0, 0), (b"", 0), now))
        self._positions[number] = (0, 1)
        return SourceState(number, 0, 1)
