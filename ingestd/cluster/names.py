"""What the streams, subjects and consumers of one spool are called."""

from typing import NamedTuple

ALL = -1
"""In the place of a partition: all of them."""


class Share(NamedTuple):
    """The events of one partition for one sink, or of all partitions: what one worker at a time owns."""

    sink: str
    partition: int

    def __str__(self) -> str:
        return f"{self.sink}/{self.where}"

    @property
    def where(self) -> str:
        return "all" if self.partition == ALL else str(self.partition)

    @property
    def consumer(self) -> str:
        return f"{self.sink}-{self.where}"


class StreamNames(NamedTuple):
    """``spool``: what ``spool.name`` says."""

    spool: str

    @property
    def events(self) -> str:
        return f"{self.spool}-events"

    @property
    def frozen(self) -> str:
        return f"{self.spool}-frozen"

    @property
    def dead(self) -> str:
        return f"{self.spool}-dead"

    @property
    def state(self) -> str:
        """The stream behind the KV bucket."""
        return f"KV_{self.spool}-state"

    @property
    def audit(self) -> str:
        return f"{self.spool}-audit"

    @property
    def audit_line(self) -> str:
        """Where commands say who did what."""
        return f"ingestd.{self.spool}.a"

    def entry(self, key: str) -> str:
        """The subject of a key of the bucket."""
        return f"$KV.{self.spool}-state.{key}"

    def partition(self, number: int) -> str:
        """Where an edge puts chunks; all of them: ``ALL``."""
        return f"ingestd.{self.spool}.e.{'*' if number == ALL else number}"

    def log(self, share: Share) -> str:
        """Where the owner of a share writes down its frozen batches, and what became of them."""
        return f"ingestd.{self.spool}.f.{share.sink}.{share.where}"

    def letter(self, where: str) -> str:
        """The place of a dead letter: sink (``-``: it was rejected before routing), reason and id."""
        return f"ingestd.{self.spool}.d.{where}"

    def letters_of(self, sink: str) -> str:
        """``*``: of all sinks."""
        return self.letter(f"{sink}.*.*")

    @property
    def letter_news(self) -> str:
        """Where it is said that a person did something with dead letters; nothing of it is kept."""
        return f"ingestd.{self.spool}.letters"

    @property
    def probes(self) -> str:
        """Where a person asks for a sink to be tried at once; nothing of it is kept."""
        return f"ingestd.{self.spool}.probes"

    @property
    def taps(self) -> str:
        """Where a person who looks at passing events says so; nothing of it is kept."""
        return f"ingestd.{self.spool}.taps"

    @property
    def members(self) -> str:
        """Where edges and workers say that they are there; nothing of it is kept."""
        return f"ingestd.{self.spool}.members"
