"""Sources of files that are followed."""

from collections.abc import Iterator

from ingestd.sources.live.patterns import Identity, of_its_own
from ingestd.sources.live.reading import ReadOptions
from ingestd.sources.live.source import FilesSource
from ingestd.store.file_rows import FileRows
from ingestd.wiring.broker_feed import Feeding, FeedingContext


def files_sources(context: FeedingContext) -> Iterator[Feeding]:
    """No two of them read the same file."""
    pipeline = context.pipeline
    claims = dict[Identity, str]()
    limits = pipeline.settings.source
    own = of_its_own(str(pipeline.database.path.parent), pipeline.settings.audit.file)
    for name, files in pipeline.settings.ingest.files.items():
        options = ReadOptions(
            limits.max_event_bytes,
            limits.max_window,
            files.items,
            files.format,
            files.unwrapper,
            pipeline.bounds.followed_chunk_bytes,
        )
        source = FilesSource(
            name,
            files,
            pipeline.journal,
            FileRows(pipeline.database),
            options,
            cuts=lambda number: [(start, end) for start, end, _ in context.cuts(number)],
            claims=claims,
            own=own,
            clock=pipeline.clock,
            warn=context.warn,
        )
        yield Feeding(source, files.spool)
