"""Sources of files that are followed: made where one is configured, and imported only then."""

from collections.abc import Callable, Iterator, Sequence

from ingestd.sources.live.patterns import Identity, of_its_own
from ingestd.sources.live.reading import ReadOptions
from ingestd.sources.live.source import FilesSource
from ingestd.store.file_rows import FileRows
from ingestd.wiring.pipeline import Pipeline, Warn


def files_sources(
    pipeline: Pipeline, cuts: Callable[[int], Sequence[tuple[int, int]]], warn: Warn
) -> Iterator[tuple[FilesSource, bool]]:
    """Each, and whether its events go into the spool. No two of them read the same file."""
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
        yield (
            FilesSource(
                name,
                files,
                pipeline.journal,
                FileRows(pipeline.database),
                options,
                cuts=cuts,
                claims=claims,
                own=own,
                clock=pipeline.clock,
                warn=warn,
            ),
            files.spool,
        )
