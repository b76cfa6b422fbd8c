"""To try a sink at once, at a supervisor: its workers are asked, and what they answer is put in words."""

from collections.abc import Mapping

from ingestd.admin.read_model import Changed
from ingestd.app.cluster.spool import on_nats
from ingestd.app.console.service_model import PARKED
from ingestd.cluster.names import StreamNames
from ingestd.cluster.parked_sinks import read_parked
from ingestd.cluster.probes import ProbeAnswer
from ingestd.cluster.probes import probe as ask
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import NatsConnection

_WITHIN_S = 2.0


def probe(settings: Settings, sink: str, workers: Mapping[int, str]) -> Changed:
    """``workers``: names of those that live, by process id. Raises UserError: there is none, or none
    answers."""
    if not workers:
        raise UserError("no worker runs now: its next one tries the sink when it begins")

    async def work(connection: NatsConnection) -> Changed:
        names, clock = StreamNames(settings.spool.name), SystemClock()
        if sink in await read_parked(connection, names):
            return Changed(dry_run=False, selected=1, changed=0, words=[PARKED])
        found = await ask(connection, names, sink, clock=clock, within_s=_WITHIN_S, expected=workers.keys())
        return _told(found, workers)

    return on_nats(settings, work)


def _told(found: Mapping[int, ProbeAnswer], workers: Mapping[int, str]) -> Changed:
    silent = [name for pid, name in workers.items() if pid not in found]
    if not found:
        raise UserError(f"{', '.join(silent)}: no answer, so nothing is known to be tried: try it again")
    probing = any(one.probing for one in found.values())
    words = ["the next request goes out now" if probing else "it is not paused: nothing to probe"]
    words += [f"{name} does not answer: what it sends is not tried" for name in silent]
    return Changed(dry_run=False, selected=1, changed=int(probing), words=words)
