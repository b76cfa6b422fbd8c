"""The table ``[ingest.files]``, or ``[ingest.files.NAME]``: files that are followed, and how."""

import os
from typing import Annotated, Literal

from ingestd.core.setting_types import Before, Seconds, as_list, field
from ingestd.core.unwrap import UnwrapSection


class FilesConfig(UnwrapSection):
    """Files that are read as they are written, rotated and dropped in directories."""

    paths: Annotated[list[str], Before(as_list)] = field(
        [],
        max_length=100,
        description="files, directories, or patterns of them: *, ?, [a-z], ** for any depth; needed",
    )
    exclude: Annotated[list[str], Before(as_list)] = field(
        [], max_length=100, description="patterns of names, or of whole paths, that are left out"
    )
    format: Literal["auto", "lines", "values"] = field(
        "auto",
        description="auto: as its first bytes say; lines: an event a line; values: JSON wherever it ends",
    )
    items: str = field(
        "", description="files hold objects with lists of this name, and those hold the events"
    )
    start: Literal["all", "new"] = field(
        "all", description="at the very first start: all: what is there is read; new: only what is added then"
    )
    order: Literal["time", "name"] = field(
        "time",
        description="which of several files is read first: the one last written to longest ago, or by name",
    )
    closed_after: Seconds = field(
        5.0,
        ge=0.05,
        le=86_400,
        description="time without a write after which a file is closed: archives and arrays are read then",
    )
    rotated_after: Seconds = field(
        60.0,
        ge=0.05,
        le=86_400,
        description="how long a file that was renamed away or deleted is followed after its last write",
    )
    when_done: Literal["keep", "delete", "move"] = field(
        "keep", description="what becomes of a file whose events are all settled"
    )
    move_to: str = field("", description="directory, on the same file system, for when_done = move")
    done_after: Seconds = field(
        60.0, ge=0.05, le=31_536_000, description="time without a write before a file is deleted or moved"
    )
    watch: Literal["auto", "poll"] = field(
        "auto",
        description="auto: the system reports changes where it can (extra files); poll: every poll_every",
    )
    poll_every: Seconds = field(
        1.0,
        ge=0.02,
        le=3600,
        description="how often directories are looked at where the system does not report changes",
    )
    max_open: int = field(200, ge=4, le=100_000, description="most files that are held open")
    max_files: int = field(
        10_000, ge=1, le=1_000_000, description="most files that are known at the same time; others wait"
    )
    spool: bool = field(
        False, description="read on when events are in the spool; false: when sinks have room for them"
    )

    def _check(self) -> None:
        if not self.paths or not all(self.paths):
            raise ValueError("paths is missing: the files, directories or patterns to read")
        if (self.when_done == "move") != bool(self.move_to):
            raise ValueError('when_done = "move" and move_to go together')
        if any("\0" in path for path in [*self.paths, self.move_to]):
            raise ValueError("a path must not have a NUL in it")

    @property
    def left_out(self) -> list[str]:
        """What was moved is not read again."""
        return [*self.exclude, *([os.path.join(os.path.abspath(self.move_to), "*")] if self.move_to else [])]

    @property
    def patterns(self) -> list[str]:
        """From the root on."""
        return [*map(os.path.abspath, self.paths)]
