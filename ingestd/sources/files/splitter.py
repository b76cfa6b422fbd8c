"""What cuts an input into events, whatever its format."""

from typing import Protocol

from ingestd.sources.files.splitting import Region, UnfinishedValue


class Splitter(Protocol):
    """``half``: what is left at the end, as it may still be written to. ``reached``: where the next region
    begins, and the number of its first line."""

    @property
    def half(self) -> UnfinishedValue | None: ...
    @property
    def reached(self) -> tuple[int, int]: ...

    def next_region(self) -> Region | None:
        """None at the end. Raises Damaged for what is behind all that was given."""
        ...
