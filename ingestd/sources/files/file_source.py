"""A file, a pipe or standard input as a source: where it goes on, and how far it is resolved."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from ingestd.core.chunk import Chunk
from ingestd.core.clock import Clock
from ingestd.core.receipt import Receipt
from ingestd.sources.files.jsonl import JsonSource
from ingestd.sources.files.streams import fingerprint
from ingestd.sources.source import Keeper, OrderedAcks, Position
from ingestd.store.journal import Journal


class FileSource:
    """``reader`` is open already: what cannot be read at all is said before anything else is done.

    ``start``: the offset where this run begins; ``read_before``: the wall time when it was read to there. A
    regular file keeps its events; those of a pipe the journal keeps.
    """

    def __init__(
        self,
        reader: JsonSource,
        journal: Journal,
        *,
        clock: Clock,
        warn: Callable[[str], None],
        from_start: bool = False,
    ) -> None:
        self.reader = reader
        self.keeper = Keeper.SOURCE if reader.rereadable else Keeper.JOURNAL
        self.start, self.read_before = 0, 0.0
        self._line = 1
        self._journal = journal
        self._clock = clock
        self._warn = warn
        self._from_start = from_start
        self._acks = OrderedAcks(self.ack)

    @property
    def name(self) -> str:
        return self.reader.name

    @property
    def number(self) -> int:
        return self.reader.number

    @property
    def oldest_since(self) -> float | None:
        """When the oldest chunk was read that has an unresolved event."""
        return self._acks.oldest_since

    async def open(self) -> None:
        """Where the run before ended with it."""
        reader, now = self.reader, self._clock.wall()
        if self.keeper is Keeper.SOURCE:
            state = await self._journal.find_file(
                reader.name,
                identity=reader.identity,
                fingerprints=lambda start, length: fingerprint(reader.path, length, start=start),
                size=reader.plain_size,
                from_start=self._from_start,
                now=now,
            )
        else:
            state = await self._journal.new_stream(reader.name, now=now)
        if state.rewritten:
            self._warn(
                f"{reader.name} is another file than the one that was read before, to byte {state.rewritten};"
                " it is read from its start"
            )
        reader.number = state.number
        self.start, self._line, self.read_before = state.position, state.line, state.moved

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        async for chunk in self.reader.chunks(self.start, self._line):
            yield chunk, self._acks.receipt(chunk, self._clock.monotonic())

    def ack(self, position: Position) -> None:
        self._journal.moved(self.number, position.offset, position.next_line, position.mark)

    def stop(self) -> None:
        self.reader.stop()

    async def close(self) -> None:
        self.reader.close()

    def hint(self, accepted: int, rejected: int) -> str:
        """What may be unexpected in how it was read to its end, and what to do; ``accepted`` events came of
        it, of which ``rejected`` were refused."""
        reader = self.reader
        if self.start and not accepted and not reader.damage:
            when = datetime.fromtimestamp(self.read_before, UTC)
            return (
                f"{self.name} was read to its end before, on {when:%Y-%m-%d at %H.%M} UTC, and nothing was"
                " added since; --from-start reads it again"
            )
        if reader.envelope and not self.start and 0 < accepted == rejected:
            return (
                f'{self.name} begins with an object that has a list "{reader.envelope}": if that is an'
                f" envelope and its elements are the events, --items {reader.envelope} (or source.items)"
                " reads them"
            )
        return ""
