"""The sources of a replay: opened, each at the place where the run before ended, and what to say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ingestd.config.sections import SourceConfig
from ingestd.sources.files.jsonl import JsonSource
from ingestd.sources.files.progress import Progress
from ingestd.sources.files.streams import fingerprint
from ingestd.wiring.pipeline import Pipeline, Warn


@dataclass(slots=True)
class OpenSource:
    """A source and where this run begins with it. ``read_before``: when it had been read to there."""

    source: JsonSource
    progress: Progress
    start: int
    line: int
    read_before: float = 0.0

    def hint(self, accepted: int, rejected: int) -> str:
        """What may be unexpected in how it was read to its end, and what to do; ``accepted`` events came of
        it, of which ``rejected`` were refused."""
        name, source = self.source.name, self.source
        if self.start and not accepted and not source.damage:
            when = datetime.fromtimestamp(self.read_before, UTC)
            return (
                f"{name} was read to its end before, on {when:%Y-%m-%d at %H.%M} UTC, and nothing was added"
                " since; --from-start reads it again"
            )
        if source.envelope and not self.start and 0 < accepted == rejected:
            return (
                f'{name} begins with an object that has a list "{source.envelope}": if that is an envelope'
                f" and its elements are the events, --items {source.envelope} (or source.items) reads them"
            )
        return ""


def open_files(
    paths: Sequence[str], settings: SourceConfig, warn: Warn, *, chunk_bytes: int
) -> list[JsonSource]:
    """Raises UserError, and leaves none open then."""
    sources: list[JsonSource] = []
    try:
        for path in paths:
            source = JsonSource(
                path,
                max_event_bytes=settings.max_event_bytes,
                max_window=settings.max_window,
                items=settings.items,
                chunk_bytes=chunk_bytes,
            )
            if source.rereadable and any(source.identity == other.identity for other in sources):
                warn(f"{source.name}: named twice, read once")
                source.close()
            else:
                sources.append(source)
    except BaseException:
        for source in sources:
            source.close()
        raise
    return sources


async def place_source(pipeline: Pipeline, source: JsonSource, warn: Warn, *, from_start: bool) -> OpenSource:
    """Where the run before ended with it."""
    now = pipeline.clock.wall()
    if source.rereadable:
        state = await pipeline.journal.find_file(
            source.name,
            identity=source.identity,
            fingerprints=lambda start, length: fingerprint(source.path, length, start=start),
            size=source.plain_size,
            from_start=from_start,
            now=now,
        )
    else:
        state = await pipeline.journal.new_stream(source.name, now=now)
    if state.rewritten:
        warn(
            f"{source.name} is another file than the one that was read before, to byte {state.rewritten}; it"
            " is read from its start"
        )
    source.number = state.number
    progress = Progress(state.number, pipeline.journal.moved)
    return OpenSource(source, progress, state.position, state.line, state.moved)
