"""The section of the spool: in the state file, or in streams of NATS JetStream."""

from typing import Annotated, Literal

from ingestd.core.setting_types import After, Size, field
from ingestd.sources.nats.settings import NatsLogin


def _ballast(size_bytes: int) -> int:
    if 0 < size_bytes < MIN_BALLAST_BYTES:
        raise ValueError(
            f"{size_bytes} bytes are too few to drain a full disk: what the log of the state file holds, some"
            " megabytes, has to fit in; give at least 8MiB, or 0 for none"
        )
    return size_bytes


MIN_BALLAST_BYTES = 8 * 1024**2
"""SQLite writes its log back when it has 1,000 pages, and on a full disk the state file needs as much room
for them. Measured: with 2 MiB, or 3, it is stuck until somebody frees space, with 4 it is not; twice that."""


BallastSize = Annotated[Size, After(_ballast)]


class SpoolConfig(NatsLogin):
    """Accepted events that are not delivered yet: in the state file, or in streams of NATS JetStream that
    several processes share. The servers, the login, name, replicas and partitions are for NATS alone."""

    kind: Literal["sqlite", "nats"] = field(
        "sqlite", description="sqlite: the state file of this process; nats: shared by edges and workers"
    )
    name: str = field(
        "ingestd", pattern=r"^[A-Za-z0-9_-]{1,32}$", description="how the names of the streams begin"
    )
    replicas: int = field(1, ge=1, le=5, description="how many servers keep the streams; 3 outlive one")
    partitions: int = field(
        4,
        ge=1,
        le=64,
        description="most workers that can share a sink's events; `spool resize` changes it later",
    )

    workers: int = field(
        0,
        ge=0,
        le=16,
        description="run starts a NATS server on this machine, and so many edges and workers; 0: neither",
    )

    max_bytes: Size = field(
        4 * 1024**3, ge=1024**2, description="most bytes of waiting events; beyond that producers get 429"
    )
    max_parked: Size = field(
        4 * 1024**3, ge=0, description="most bytes beyond max_bytes that wait for parked sinks alone"
    )
    ballast: BallastSize = field(
        16 * 1024**2, ge=0, description="room kept free, to drain a full disk; 0, or at least 8MiB"
    )

    def _check(self) -> None:
        self.check_login()
        if self.workers:
            self._check_workers()

    def _check_workers(self) -> None:
        if self.kind != "nats":
            raise ValueError("workers share a spool on NATS: set kind = 'nats' beside it")
        if "servers" in self.model_fields_set or self.logins or self.wants_tls or self.domain:
            raise ValueError(
                "workers goes without servers and a login: run starts a server of its own; with servers that"
                " are there, start `ingestd run --edge` and `ingestd run --worker` as often as wanted"
            )
        if self.replicas > 1:
            raise ValueError("workers has one server, so replicas is 1: more need machines of their own")
        if self.workers > self.partitions:
            raise ValueError(f"{self.workers} workers cannot share {self.partitions} partitions: set more")
