"""What is known of the files of a source, for metrics and ``/v1/status``."""

import msgspec

from ingestd.sources.broker.source import SourceCounts


class FileCounts(SourceCounts):
    """``messages``: events that were read. ``files``: that are known; of them ``open_files`` are held open,
    ``unread_files`` have something to read, ``rotated_files`` were renamed away or deleted and are still
    followed, ``unfinished_files`` end in the middle of an event, ``refused_files`` cannot be read, with the
    reasons in ``refused``. ``watched``: what reports changes. Never falling: ``files_done``: read to their
    end, settled and let go, and once more where one has grown since; ``truncated``: times that a file was
    truncated or written again; ``lost_bytes``: that were gone before they were read."""

    files: int = 0
    open_files: int = 0
    unread_files: int = 0
    unread_bytes: int = 0
    rotated_files: int = 0
    unfinished_files: int = 0
    refused_files: int = 0
    refused: dict[str, str] = msgspec.field(default_factory=dict)
    files_done: int = 0
    truncated: int = 0
    lost_bytes: int = 0
    watched: str = ""
