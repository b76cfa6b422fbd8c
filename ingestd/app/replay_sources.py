"""The files of a replay: opened, and what is unexpected in how they were read. Called by ``replay.py``."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial

from ingestd.core.chunk import Keeper
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.sources.files.formats import kind_of
from ingestd.sources.files.jsonl import FileSource, JsonSource
from ingestd.sources.files.settings import SourceConfig
from ingestd.store.frozen_batches import FrozenBatch
from ingestd.store.spool_rows import words_of_left_behind
from ingestd.wiring.pipeline import Pipeline, Warn


def open_files(
    paths: Sequence[str], settings: SourceConfig, warn: Warn, *, schema: str, chunk_bytes: int
) -> list[JsonSource]:
    """Raises UserError, and leaves none open then."""
    sources: list[JsonSource] = []
    try:
        for path in paths:
            source = _open_file(path, settings, schema, chunk_bytes)
            if source.keeper is Keeper.SOURCE and any(source.identity == other.identity for other in sources):
                warn(f"{source.name}: named twice, read once")
                source.close()
                continue
            sources.append(source)
            if foreign := source.look():
                raise UserError(f"{source.name}: {foreign}")
    except BaseException:
        for source in sources:
            source.close()
        raise
    return sources


def _open_file(path: str, settings: SourceConfig, schema: str, chunk_bytes: int) -> JsonSource:
    make: Callable[..., JsonSource] = JsonSource
    if kind := kind_of(path, settings.format):
        from ingestd.schemas.column_types import column_types
        from ingestd.sources.files.tables import TableSource

        types_at = column_types(schema)
        make = partial(TableSource, kind=kind, types_at=types_at, delimiter=settings.delimiter)
    return make(
        path,
        max_event_bytes=settings.max_event_bytes,
        max_window=settings.max_window,
        items=settings.items,
        layout=settings.format,
        unwrap=settings.unwrapper,
        chunk_bytes=chunk_bytes,
    )


async def close_files(readers: Sequence[JsonSource], sources: Sequence[FileSource]) -> None:
    """After the acknowledgements are on disk. Where there was no pipeline, no reader has become a source."""
    for source in sources:
        await source.close()
    for reader in readers[len(sources) :]:
        reader.close()


def oldest_s(sources: Sequence[FileSource], clock: Clock) -> float:
    """Age of the oldest chunk with an unresolved event."""
    since = [since for source in sources if (since := source.oldest_since) is not None]
    return clock.monotonic() - min(since) if since else 0.0


def refuse_left_out(pipeline: Pipeline, frozen: Sequence[FrozenBatch], files: Collection[int]) -> None:
    """A sink that is configured no more has not answered for events of these files. A run may go past them,
    and no later one reads what stands before its checkpoint. Raises UserError."""
    own = {runner.name for runner in pipeline.runners}
    left = Counter(
        batch.sink
        for batch in frozen
        if not batch.settled and batch.segments and all(source in files for source, *_ in batch.segments)
    )
    for sink, count in left.items():
        if sink not in own:
            what = "batch of this input", "batches of this input"
            raise UserError(words_of_left_behind(sink, count, pipeline.database.path.parent, what=what))


def hint_of(source: FileSource, accepted: int, rejected: int) -> str:
    """What may be unexpected in how it was read to its end, and what to do; ``accepted`` events came of it,
    of which ``rejected`` were refused."""
    reader = source.reader
    if source.start and not accepted and not reader.damage:
        when = datetime.fromtimestamp(source.read_before, UTC)
        return (
            f"{source.name} was read to its end before, on {when:%Y-%m-%d at %H.%M} UTC, and nothing was"
            " added since; --from-start reads it again"
        )
    if reader.envelope and not source.start and 0 < accepted == rejected:
        return (
            f'{source.name} begins with an object that has a list "{reader.envelope}": if that is an'
            f" envelope and its elements are the events, --items {reader.envelope} (or source.items)"
            " reads them"
        )
    return ""
