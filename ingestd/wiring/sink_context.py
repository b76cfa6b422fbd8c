"""What every sink of a pipeline stands on."""

import random
from collections.abc import Callable

import msgspec

from ingestd.config import Login, Settings
from ingestd.core.bounds import Bounds
from ingestd.core.clock import Clock
from ingestd.recording.event_recorder import EventRecorder, EventTrace
from ingestd.store.database import Database
from ingestd.store.journal import Journal
from ingestd.store.spool import Spool
from ingestd.telemetry.audit_entry import Audit
from ingestd.telemetry.metrics import Metrics
from ingestd.telemetry.state_watch import StateWatch
from ingestd.transport.engine import Engine
from ingestd.transport.file_system import FileSystem
from ingestd.transport.watched_file import Watch


class SinkContext(msgspec.Struct, frozen=True, kw_only=True):
    """What every sink stands on. ``watch``: all their files. ``patient``: they wait out every outage."""

    settings: Settings
    login: Login | None
    metrics: Metrics
    audit: Audit
    states: StateWatch
    clock: Clock
    rng: random.Random
    warn: Callable[[str], None]
    watch: Watch
    patient: bool
    bounds: Bounds
    engine: Engine | None = None
    file_system: FileSystem | None = None
    trace: EventTrace | None = None


class PipelineContext(SinkContext, frozen=True, kw_only=True):
    """What the runners stand on, besides."""

    database: Database
    journal: Journal
    recorder: EventRecorder
    spool: Spool
    requested_letters_only: bool
