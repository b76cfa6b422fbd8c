"""A worker: owns its part of the shares of a spool, for as long as it is there.

One connection serves all of them, and they end with it. What then comes again is the next owner's, who is
mostly the same worker.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from functools import partial

import anyio
import msgspec

from ingestd.cluster import installation, provisioning, sink_registry
from ingestd.cluster.event_splitter import EventSplitter
from ingestd.cluster.generations import Generations, watch_partitions
from ingestd.cluster.left_sinks import LeftSinks
from ingestd.cluster.membership import Member, Membership, ParkedHere, assign, shares_of
from ingestd.cluster.names import Share, StreamNames
from ingestd.cluster.owned_shares import OwnedShares
from ingestd.cluster.parked_sinks import SharedParking
from ingestd.cluster.probes import ProbeAnswer, Probes
from ingestd.cluster.share_consumer import LetGo, ShareConsumer
from ingestd.cluster.share_log import LogFenced
from ingestd.cluster.share_owner import ShareOwner
from ingestd.cluster.shared_rate import SharedRate
from ingestd.cluster.shared_spool import SharedSpool
from ingestd.cluster.sink_parts import SinkParts
from ingestd.cluster.tap_source import TapSource
from ingestd.config import Settings
from ingestd.core.backoff import Backoff
from ingestd.core.clock import Clock, ungrouped, wait_until_set
from ingestd.core.errors import UserError, first_cause
from ingestd.schemas.key_paths import KeyPaths
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import JetStreamError, NatsConnection

_LOOK_S = 0.1
_LOOK_IDLE_S = 5.0
"""While it has the shares that it should have, and nobody comes or goes."""
_AGAIN_S = 0.3
_RETRY = Backoff(base_s=0.1, cap_s=2.0)
_HAND_OVER_S = 5.0
"""What is on its way when a share goes to another worker is finished, as far as that works in this time."""
_LISTEN_S = 0.6
"""Before it takes anything a worker hears who is there: longer than a beat."""
_SHARE_BYTES, _ALL_BYTES = 8 * 1024 * 1024, 256 * 1024 * 1024
"""Of chunks in memory: of one share, and of all that this worker might own."""


class Worker:
    """``run`` until ``stop``. ``parts``: by sink. ``member``: what it says of itself, without its shares."""

    def __init__(
        self,
        settings: Settings,
        parts: Mapping[str, SinkParts],
        member: Member,
        *,
        clock: Clock,
        rng: random.Random,
        warn: Callable[[str], None],
        inform: Callable[[str], None],
        tap_source: TapSource,
    ) -> None:
        self._tap_source = tap_source
        self._settings = settings
        self.parts = parts
        self._member = member
        self._clock = clock
        self._rng = rng
        self._warn = warn
        self._inform = inform
        self._names = StreamNames(settings.spool.name)
        self.membership = Membership(self._names, clock, self.describe)
        self.owned = OwnedShares(parts)
        self.rates = {
            sink: SharedRate(sink, one.limit, member.name, clock=clock, rng=rng)
            for sink, one in parts.items()
            if one.limit
        }
        self.parking = SharedParking(self._names, clock)
        self._obeyed = self.parking.parked
        self._probes = Probes(self._names, self._probe)
        self._left = LeftSinks(member.name, self._workers, clock=clock, warn=warn)
        self.connected = False
        self.problem = "it is not connected yet"
        self.partitions = 0
        self._waiting_since: dict[Share, float] = {}
        self._not_before: dict[Share, float] = {}
        self._to_announce = asyncio.Event()
        self._stop = anyio.Event()
        self._stop_s = 0.0

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def describe(self) -> Member:
        return msgspec.structs.replace(
            self._member, shares=self.owned.describe(), leaving=self.stopping, parked=self._parked_here()
        )

    def _parked_here(self) -> dict[str, ParkedHere]:
        return {
            sink: ParkedHere(one.number, self.owned.out(sink))
            for sink, one in self._obeyed.items()
            if sink in self.parts
        }

    def _obey(self) -> None:
        """What persons have parked and resumed: nothing more is sent from here on, or all of it again."""
        self._obeyed = parked = self.parking.parked
        for name, parts in self.parts.items():
            parts.sender.hold(name in parked)
            parts.report_parked(name in parked, partial(self._waiting, name))
        for share, owner in self.owned.owners.items():
            owner.hold(share.sink in parked)
        self._to_announce.set()

    def _probe(self, sink: str) -> ProbeAnswer | None:
        """Somebody does not want to wait for the next try of a sink."""
        if sink not in self.parts:
            return None
        lanes = self.owned.active_lanes(sink)
        probing = [lane for lane in lanes if lane.probe_now()]
        out = sum(lane.active > 0 for lane in probing)
        return ProbeAnswer(self._member.pid, len(lanes), len(probing), self._member.name, out)

    def _waiting(self, sink: str) -> str:
        return f"{self.owned.ledger_of(sink).in_flight:,} events wait"

    def stop(self, within_s: float) -> None:
        """Finish what is on its way, then ``run`` returns."""
        self._stop_s = within_s
        self._stop.set()
        self.membership.changed.set()

    async def run(self) -> None:
        """Raises UserError for what will not get better by itself."""
        failures = 0
        while not self.stopping:
            try:
                await self._session()
                failures = 0
            except (BrokerAway, JetStreamError) as error:
                failures = 1 if self.connected else failures + 1
                self.connected, self.problem = False, str(error)
                if failures == 1:
                    self._warn(f"{error}; no share is owned meanwhile")
                await wait_until_set(self._stop, _RETRY.delay(failures, rng=self._rng), self._clock)

    async def _session(self) -> None:
        ended = anyio.Event()
        connection = NatsConnection(self._settings.spool, self._clock, ended.set, echo=False)
        await connection.open()
        try:
            with ungrouped(BrokerAway, JetStreamError, UserError):
                spool = await self._join(connection)
                self.connected, self.problem = True, ""
                self._inform(f"connected to NATS at {connection.shown}")
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.membership.run, connection)
                    tasks.start_soon(self.parking.run, connection, self._obey)
                    tasks.start_soon(self._announce_at_once, connection)
                    tasks.start_soon(self._probes.run, connection)
                    tasks.start_soon(self._tap_source.run, connection)
                    tasks.start_soon(self._watch, connection, ended)
                    for rate in self.rates.values():
                        tasks.start_soon(rate.run, connection, self._names)
                    await connection.listen(self._receive_letter_news, self._names.letter_news)
                    await connection.listen(self._receive_sink_news, self._names.entry("sink.*"))
                    tasks.start_soon(watch_partitions, spool, self._clock)
                    tasks.start_soon(self._left.run, spool)
                    await self._keep_shares(spool, tasks)
                    tasks.cancel_scope.cancel()
                await self.membership.announce(connection)
        finally:
            self.owned.owners.clear()
            self.membership.forget()
            with anyio.CancelScope(shield=True):
                await connection.close()

    async def _join(self, connection: NatsConnection) -> SharedSpool:
        settings = self._settings
        found = await installation.load(connection, settings)
        installation.check(found, settings)
        await self.parking.begin(connection)
        self.partitions = found.partitions
        mine = shares_of({name: one.whole for name, one in self.parts.items()}, found.numbers)
        sinks = await sink_registry.register_sinks(connection, self._names, mine)
        for share in mine:
            await ShareConsumer(connection, self._names, share, self._clock, max_bytes=0).make()
        await provisioning.keep_all_versions(connection, self._names)
        order_by = settings.delivery.order_by
        order = KeyPaths.parse(order_by) if order_by else None
        least = 2 * connection.max_payload + 1
        return SharedSpool(
            connection,
            self._names,
            bytes.fromhex(found.secret),
            found,
            EventSplitter(found.partitions, order.of if order else None, first=found.first),
            sinks,
            self._member.name,
            self.rates,
            self.parking.is_parked,
            held_bytes=max(least, min(_SHARE_BYTES, _ALL_BYTES // len(mine))),
        )

    async def _announce_at_once(self, connection: NatsConnection) -> None:
        """Who parks a sink waits for that."""
        while True:
            await self._to_announce.wait()
            self._to_announce.clear()
            await self.membership.announce(connection)

    def _receive_letter_news(self, message: object) -> None:
        for owner in self.owned.owners.values():
            owner.look_at_letters()

    def _receive_sink_news(self, message: object) -> None:
        for owner in self.owned.owners.values():
            owner.look_at_sinks()

    async def _watch(self, connection: NatsConnection, ended: anyio.Event) -> None:
        await ended.wait()
        raise BrokerAway(f"the connection to NATS at {connection.shown} is lost")

    async def _keep_shares(self, spool: SharedSpool, tasks: anyio.abc.TaskGroup) -> None:
        """Take what this worker should own, and hand over what it should not, until it is to stop."""
        await wait_until_set(self._stop, _LISTEN_S, self._clock)
        sinks = {name: one.whole for name, one in self.parts.items()}
        window = self._settings.window
        generations = Generations(
            spool, sinks, self._clock, max_count=window.max_count, max_age_s=window.max_age
        )
        await generations.look()
        tasks.start_soon(generations.run)
        while True:
            self.membership.changed.clear()
            steady = False
            if self.stopping:
                for owner in self.owned.owners.values():
                    owner.leave(self._stop_s)
                if not self.owned.owners:
                    return
            else:
                steady = self._compare(generations.shares, spool, tasks) and generations.done
            wait_s = min(_LOOK_IDLE_S, self.membership.silent_in_s) if steady else _LOOK_S
            await wait_until_set(self.membership.changed, wait_s, self._clock)

    def _compare(self, everything: list[Share], spool: SharedSpool, tasks: anyio.abc.TaskGroup) -> bool:
        """Whether this worker had all that it should have, and nothing else."""
        others = [one for one in self.membership.others if one.kind != "edge"]
        name = self._member.name
        wanted = {share for share, who in assign(everything, self._workers()).items() if who == name}
        now, owned = self._clock.monotonic(), self.owned.owners
        steady = wanted == owned.keys()
        for share, owner in owned.items():
            if share not in wanted:
                owner.leave(_HAND_OVER_S)
        for share in wanted - owned.keys():
            if now < self._not_before.get(share, 0.0):
                continue
            since = self._waiting_since.setdefault(share, now)
            if any(one.owns(share) for one in others) and now - since < 2 * _HAND_OVER_S:
                continue  # it is finishing what is on its way
            self._waiting_since.pop(share, None)
            self._take(share, spool, tasks)
        return steady

    def _workers(self) -> dict[str, list[str]]:
        """Those that are there, and not about to go: by name the sinks of each."""
        others = [one for one in self.membership.others if one.kind != "edge" and not one.leaving]
        return {self._member.name: [*self.parts]} | {one.name: one.sinks for one in others}

    def _take(self, share: Share, spool: SharedSpool, tasks: anyio.abc.TaskGroup) -> None:
        window = self._settings.window
        owner = ShareOwner(
            share, spool, self.parts[share.sink], max_count=window.max_count, max_age_s=window.max_age
        )
        self.owned.owners[share] = owner
        tasks.start_soon(self._own, share, owner)

    async def _own(self, share: Share, owner: ShareOwner) -> None:
        try:
            await owner.run()
        except* (LogFenced, LetGo) as group:
            why = first_cause(group)
            self._inform(f"let go of {share}: {str(why) or 'another worker owns it now'}")
            self._not_before[share] = self._clock.monotonic() + _AGAIN_S
        finally:
            self.owned.owners.pop(share, None)
            self.membership.changed.set()
            self._retire(share, owner)

    def _retire(self, share: Share, owner: ShareOwner) -> None:
        if not hasattr(owner, "recorder"):
            return
        if not any(lane.circuit.why for lane in self.owned.lanes(share.sink)):
            self.parts[share.sink].states.forget(share.sink)  # the next owner finds out for itself
        self.owned.retire(share, owner)
