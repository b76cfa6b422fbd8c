"""To try a sink at once: workers are asked, and what they answer is put in words. At a supervisor, and for
``ingestd spool probe``.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from ingestd.admin.read_model import Changed
from ingestd.app.cluster.audit import noting
from ingestd.app.cluster.server_at_hand import nothing_runs, with_restart_advice
from ingestd.app.cluster.spool import list_members, on_nats
from ingestd.app.console.service_model import PARKED, probe_words
from ingestd.cluster import installation, sink_registry
from ingestd.cluster.membership import Member
from ingestd.cluster.names import StreamNames
from ingestd.cluster.parked_sinks import read_parked
from ingestd.cluster.probes import ProbeAnswer
from ingestd.cluster.probes import probe as ask
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.core.errors import NotFound, UserError
from ingestd.core.text import cut, suggestion
from ingestd.sources.nats.connection import NatsConnection
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.wiring.factories import sections_of

_WITHIN_S = 2.0


class Probed(msgspec.Struct):
    """``probing``: whether a request goes out now that would have waited; ``silent``: workers that did not
    answer, in words; ``is_owned``: whether one of the others owns a share of the sink; ``is_out``: what is
    tried has its request out already."""

    probing: bool
    silent: list[str]
    is_owned: bool = True
    is_out: bool = False

    def words(self) -> list[str]:
        lines = [probe_words(probing=self.probing, is_out=self.is_out)]
        if not self.is_owned:
            lines = ["no worker owns a share of it at this moment: the next owner tries it when it begins"]
        return lines + [f"{name} does not answer: what it sends is not tried" for name in self.silent]


def probe(settings: Settings, sink: str, workers: Mapping[int, str]) -> Changed:
    """``workers``: names of those that live, by process id. Raises UserError: there is none, or none
    answers."""
    if not workers:
        raise UserError("no worker runs now: its next one tries the sink when it begins")

    def silent(answers: Collection[ProbeAnswer]) -> list[str]:
        answered = {one.pid for one in answers}
        return [name for pid, name in workers.items() if pid not in answered]

    async def work(connection: NatsConnection) -> Changed:
        names, clock = StreamNames(settings.spool.name), SystemClock()
        if sink in await read_parked(connection, names):
            return Changed(dry_run=False, selected=1, changed=0, words=[PARKED])
        found = await ask(
            connection, names, sink, clock=clock, within_s=_WITHIN_S, enough=lambda some: not silent(some)
        )
        done = _probed(found, silent(found))
        return Changed(dry_run=False, selected=1, changed=int(done.probing), words=done.words())

    return on_nats(settings, work)


def probe_all(settings: Settings, sink: str) -> Probed:
    """For the command: all workers are asked, wherever they run. Raises UserError: the sink is parked, there
    is no worker, or none answers; NotFound for a sink that is not there."""
    if nothing_runs(settings):
        raise UserError(
            "nothing runs here, so nothing waits for its next try:"
            f" `ingestd run` tries {cut(sink)} as soon as it begins"
        )

    async def work(connection: NatsConnection) -> Probed:
        names, clock = StreamNames(settings.spool.name), SystemClock()
        await installation.load(connection, settings)
        known = {*sections_of(settings), *await sink_registry.known_sinks(connection, names)}
        if sink not in known:
            raise NotFound(f"there is no sink {cut(sink)} here{suggestion(sink, sorted(known))}")
        if sink in await read_parked(connection, names):
            raise UserError(f"{sink}: {PARKED}")
        members = await list_members(connection, names)
        workers = [one for one in members if one.kind != "edge" and sink in one.sinks and not one.leaving]
        if not workers:
            raise UserError(f"no worker of {sink} is there: the next one tries it when it begins")
        found = await ask(
            connection,
            names,
            sink,
            clock=clock,
            within_s=_WITHIN_S,
            enough=lambda some: not _silent(workers, some),
        )
        return _probed(found, _silent(workers, found))

    with with_restart_advice(settings), noting(settings) as audit:
        done = on_nats(settings, work)
        audit(AuditEntry.SINK_PROBED, sink=sink)
    return done


def _silent(workers: Sequence[Member], answers: Collection[ProbeAnswer]) -> list[str]:
    """An older version does not say its name."""
    named, pids = {one.name for one in answers}, {one.pid for one in answers if not one.name}
    return [
        f"worker {one.name} (process {one.pid} on {one.host})"
        for one in workers
        if one.name not in named and one.pid not in pids
    ]


def _probed(found: Sequence[ProbeAnswer], silent: list[str]) -> Probed:
    if not found:
        raise UserError(f"{', '.join(silent)}: no answer, so nothing is known to be tried: try it again")
    probing = sum(one.probing for one in found)
    is_out = 0 < probing == sum(one.out for one in found)
    return Probed(probing > 0, silent, any(one.shares for one in found), is_out)
