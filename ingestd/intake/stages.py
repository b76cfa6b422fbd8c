"""The pure stages of a replay, handed to ``replay_intake`` and what it is made of."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from ingestd.delivery.sink_runner import SinkRunner
from ingestd.processing.dedup import Window
from ingestd.processing.routes import Routes
from ingestd.processing.validate import Validator
from ingestd.recording.event_recorder import EventRecorder
from ingestd.store.writer import Work

OutboxWork = Callable[[Sequence[bytes]], Work | None]


class Stages(msgspec.Struct, frozen=True):
    """The pure stages, and whom they report to. ``outboxes``: of lakes, by name, which get the
    events of a chunk that are new and valid, once, however often the chunk is read."""

    window: Window
    validator: Validator
    routes: Routes
    recorder: EventRecorder
    sinks: Sequence[SinkRunner]
    outboxes: Mapping[str, OutboxWork] = msgspec.field(default_factory=dict)
