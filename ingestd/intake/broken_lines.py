"""Lines that are no JSON: what is in them all the same, and what to do about the others."""

from ingestd.core.chunk import Chunk
from ingestd.processing.validate import ValidatedChunk, Validator
from ingestd.sources.files.salvage import events_in, is_utf16, recut


def cut_apart(
    chunk: Chunk, checked: ValidatedChunk, unparsable: list[int], validator: Validator
) -> ValidatedChunk:
    """A line may be several events: then the chunk has these. ``unparsable``: positions."""
    lines = {index: chunk.events[index] for index in unparsable}
    broken = {
        index: found
        for index, line in lines.items()
        if index not in chunk.too_long and (found := events_in(line)) != [(0, line)]
    }
    if broken:
        recut(chunk, broken.__getitem__, broken)
        checked = validator.check(chunk.events, again=True)
        lines = {index: chunk.events[index] for index in checked.unparsable}
    for index, line in lines.items():
        if is_utf16(line):
            checked.refuse(
                index, "it is UTF-16 in the middle of UTF-8: convert it, as by iconv -f UTF-16 -t UTF-8"
            )
    return checked
