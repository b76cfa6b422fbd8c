"""Opens the status poller of a sink whose API is asked. Imported for such a sink alone."""

from collections.abc import Callable

from ingestd.delivery.event_status import StatusReader
from ingestd.delivery.recorder import PendingConfirmations
from ingestd.delivery.status_client import StatusClient
from ingestd.delivery.status_poller import StatusPoller, StatusPollerSettings
from ingestd.recording.confirmed_events import ConfirmedEvents
from ingestd.recording.outcome_journal import ToLake
from ingestd.recording.sink_recorder import SinkRecorder
from ingestd.sinks.answer_body import safe_text
from ingestd.sinks.settings import ConfirmConfig
from ingestd.store.confirmations import Confirmations
from ingestd.transport.client import Auth, Client
from ingestd.wiring.factories import question_template
from ingestd.wiring.sink_context import PipelineContext


async def open_status_poller(
    context: PipelineContext,
    recorder: SinkRecorder,
    confirm: ConfirmConfig,
    client: Client,
    auth: Auth,
    pending: PendingConfirmations,
    *,
    keep: ToLake | None,
    transforms: bool,
    on_room: Callable[[], None],
) -> StatusPoller:
    """It knows, too, what an earlier process was to ask about."""
    store = Confirmations(context.database, recorder.sink)
    outcomes = ConfirmedEvents(
        recorder.sink,
        recorder.ledger,
        context.recorder,
        context.journal,
        context.audit,
        context.clock,
        keep=keep,
        transforms=transforms,
    )
    poller = StatusPoller(
        recorder.sink,
        question_template(recorder.sink, confirm, context.login),
        client=StatusClient(client, auth, context.clock),
        store=store,
        recorder=outcomes,
        pending=pending,
        reader=StatusReader(
            field=confirm.status,
            delivered=confirm.delivered,
            failed=confirm.failed,
            safe_text=safe_text,
        ),
        settings=StatusPollerSettings(
            timeout_s=confirm.timeout,
            initial_delay_s=confirm.initial_delay,
            requests_per_minute=confirm.requests_per_minute,
        ),
        clock=context.clock,
        rng=context.rng,
        on_room=on_room,
        warn=context.warn,
    )
    await poller.open()
    outcomes.still_unconfirmed(await store.places())
    return poller
