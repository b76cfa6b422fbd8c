"""What must hold at every moment of a life, and what has to be over at the end of the last one."""

from ingestd.app.service_parts import Service
from ingestd.simulation.trace import Trace
from ingestd.simulation.world import SimulatedWorld
from ingestd.wiring.pipeline import Pipeline


def check_invariants(pipeline: Pipeline, trace: Trace) -> None:
    """Asked whenever nothing is ready, and time will advance."""
    if warning := pipeline.database.writer.warning:
        trace.breach(f"something is said to be lost: {warning}")
    ledger = pipeline.ledger
    if not ledger.balanced() or ledger.in_flight < 0:
        trace.breach(f"the ledger does not balance: {ledger}")
    for name, cursor in pipeline.spool.cursors.items():
        if cursor.bytes < 0 or (cursor.bytes > 0) != (cursor.events > 0):
            trace.breach(f"{name}: its backlog does not balance: {cursor.events}, {cursor.bytes} bytes")
    for runner in pipeline.runners:
        own, lane = runner.ledger, runner.lane
        if not own.balanced() or own.in_flight < 0:
            trace.breach(f"{runner.name}: the ledger does not balance: {own}")
        if lane.waiting > max(16, pipeline.settings.delivery.max_in_flight) * 2:
            trace.breach(f"{runner.name}: {lane.waiting} batches wait for their next attempt")


def what_is_left(service: Service | None, world: SimulatedWorld) -> str:
    """Of what was acknowledged and is not delivered; empty: nothing is."""
    if not (service and service.opened and world.producers.content):
        return "posts"
    lakes = service.pipeline.lakes
    pollers = [one.status_poller for one in service.pipeline.runners if one.status_poller]
    if service.ingest.spool.events or any(one.bytes for one in service.ingest.spool.cursors.values()):
        return "the spool"
    if any(lake.lake.outbox.rows for lake in lakes):
        return "the lake"
    if any(runner.lane.active for runner in service.pipeline.runners):
        return "requests"
    if any(poller.pending.count for poller in pollers):
        return "questions"
    return "leased letters" if world.has_leased() else ""
