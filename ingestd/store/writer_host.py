"""What the writer of the state file lives on."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ingestd.store.writer import CommitGroup, Steps


class WriterHost(Protocol):
    """A thread, a clock and a disk; a simulation has its own."""

    def monotonic(self) -> float: ...

    def pwrite(self, file: int, data: bytes, offset: int, /) -> int: ...

    def start(self, steps: "Steps") -> None: ...

    def put(self, group: "CommitGroup") -> None: ...

    def end(self, *, now: bool) -> None:
        """After what was put, or ``now``: then also a pause that is ``stuck`` ends."""
        ...

    async def ended(self) -> None: ...
