"""The intake of a replay, with what an earlier process left already in the lanes. Called by ``replay.py``."""

from collections.abc import Sequence

from ingestd.app.replay_sources import refuse_left_out
from ingestd.core.chunk import Keeper
from ingestd.intake.part import Part
from ingestd.intake.processed_events import ProcessedEvents
from ingestd.intake.replay_intake import ReplayIntake
from ingestd.intake.stages import Stages
from ingestd.recording.unconfirmed_events import restore_unconfirmed
from ingestd.sources.files.jsonl import FileSource
from ingestd.store.journal import DISMISSED, EVERYWHERE
from ingestd.wiring.pipeline import Pipeline, Warn, make_recovery


async def make_intake(
    pipeline: Pipeline, sources: Sequence[FileSource], *, from_start: bool, part: Part | None, warn: Warn
) -> ReplayIntake:
    """Raises UserError where a sink is left out that has not answered for events of these files."""
    files = {source.number for source in sources if source.keeper is Keeper.SOURCE}
    frozen = await pipeline.journal.frozen_batches()
    refuse_left_out(pipeline, frozen, files)
    if damaged := [batch.id for batch in frozen if not batch.segments]:
        pipeline.journal.drop(damaged)
        warn(
            f"{len(damaged)} unfinished batches are damaged in the state file: what comes from files is sent"
            " under new idempotency keys, events of standard input or a pipe are lost"
        )
    if from_start:  # also what was settled beyond the checkpoint
        again = {b.id for b in frozen if b.settled and all(source in files for source, *_ in b.segments)}
        pipeline.journal.drop(list(again))
        frozen = [batch for batch in frozen if batch.id not in again]
    else:
        starts = {one.number: one.start for one in sources}
        await restore_unconfirmed(pipeline.journal, pipeline.recorder.unconfirmed, starts)
    recoveries = {
        runner.name: make_recovery(pipeline, runner, [b for b in frozen if b.sink == runner.name], files)
        for runner in pipeline.runners
    }
    stages = Stages(
        pipeline.window,
        pipeline.validator,
        pipeline.routes,
        pipeline.recorder,
        pipeline.runners,
        outboxes={lake.name: lake.accepted for lake in pipeline.lakes if lake.accepted},
    )
    intake = ReplayIntake(
        stages,
        recoveries=recoveries,
        processed={
            by: ProcessedEvents(b for b in frozen if b.sink == by)
            for by in (EVERYWHERE, DISMISSED, *stages.outboxes)
        },
        journal=pipeline.journal,
        clock=pipeline.clock,
        warn=warn,
        bounds=pipeline.bounds,
        max_rejected=pipeline.settings.source.max_rejected,
        part=part,
    )
    intake.resume_kept()
    return intake
