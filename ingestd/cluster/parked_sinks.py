"""Which sinks a person has set aside: an entry of each in the spool's state, which all workers obey.

An entry is never deleted: one that is resumed says so. A server that is killed may give back what was purged
there, and the sink would be parked again.
"""

import asyncio
import base64
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from ingestd.cluster.membership import SILENT_S, Member
from ingestd.cluster.messages import decoded
from ingestd.cluster.names import StreamNames
from ingestd.cluster.stream_errors import NO_MESSAGE, WRONG_SEQUENCE
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import JetStreamError, NatsConnection

_TRIES = 10
_MOST_MEMBERS = 10_000


class ParkEntry(msgspec.Struct, frozen=True):
    """``at``: since when, as wall time; 0: it is not parked. ``who``: the name of who wanted it, if known."""

    at: float
    who: str = ""


class Parked(NamedTuple):
    """``number``: of the entry; a later one has a greater number. 0: there is none."""

    at: float = 0.0
    number: int = 0


class SendsStill(NamedTuple):
    """A worker that has not said that it obeys (``out`` None), or has so many requests out."""

    member: Member
    out: int | None


class Obeying(NamedTuple):
    """``late``: workers that did not obey in time, or have requests out. ``silent``: process ids of those
    that were expected, and said nothing. ``anybody``: whether a worker of the sink is there."""

    late: Sequence[SendsStill] = ()
    silent: Sequence[int] = ()
    anybody: bool = True


async def read_parked(connection: NatsConnection, names: StreamNames) -> dict[str, Parked]:
    """By sink; only those that are parked. Raises JetStreamError, BrokerAway."""
    found = await connection.ask(
        f"STREAM.INFO.{names.state}", {"subjects_filter": names.entry("parked.*"), "deleted_details": False}
    )
    sinks = [subject.rpartition(".")[2] for subject in found["state"].get("subjects") or ()]
    parked = {sink: await _read(connection, names, sink) for sink in sorted(sinks)}
    return {sink: one for sink, one in parked.items() if one.at}


async def _read(connection: NatsConnection, names: StreamNames, sink: str) -> Parked:
    try:
        found = await connection.ask(
            f"STREAM.MSG.GET.{names.state}", {"last_by_subj": names.entry(f"parked.{sink}")}
        )
    except JetStreamError as error:
        if error.code == NO_MESSAGE:
            return Parked()
        raise
    message = found["message"]
    try:
        entry = msgspec.json.decode(base64.b64decode(message.get("data", "")), type=ParkEntry)
    except msgspec.DecodeError:  # of nobody of ours
        entry = ParkEntry(0.0)
    return Parked(entry.at, int(message["seq"]))


async def set_parked(
    connection: NatsConnection, names: StreamNames, sink: str, entry: ParkEntry
) -> tuple[bool, Parked]:
    """Whether it was not so before, and what is there now. Of two who change it at once the later one sees
    what the first has done. Raises UserError, JetStreamError; BrokerAway: it may be so or not."""
    for _ in range(_TRIES):
        found = await _read(connection, names, sink)
        if bool(found.at) == bool(entry.at):
            return False, found
        headers = {"Nats-Expected-Last-Subject-Sequence": str(found.number)}
        try:
            data = msgspec.json.encode(entry)
            answer = await connection.append(names.entry(f"parked.{sink}"), data, headers)
        except JetStreamError as error:
            if error.code == WRONG_SEQUENCE:
                continue
            raise
        return True, Parked(entry.at, int(answer["seq"]))
    raise UserError(f"others park and resume {sink} at this moment: try it again")


async def wait_until_held(
    connection: NatsConnection,
    names: StreamNames,
    sink: str,
    number: int,
    *,
    clock: Clock,
    within_s: float,
    expected: Collection[int] = (),
    obeying: bool = False,
) -> Obeying:
    """Until every worker of the sink has said that it obeys the entry with this number, and, unless
    ``obeying`` is enough, has no request out. ``expected``: process ids of all workers, where they are known;
    then nobody has to be waited for who might be there. Raises BrokerAway."""
    received: dict[str, tuple[float, Member]] = {}
    news = asyncio.Event()

    def on_message(message: Any) -> None:
        member = decoded(message, Member)
        if member is None:
            return
        if member.kind != "edge" and sink in member.sinks and len(received) < _MOST_MEMBERS:
            received[member.name] = clock.monotonic(), member
            news.set()

    began = clock.monotonic()
    inbox = await connection.listen(on_message, names.members)
    try:
        while True:
            news.clear()
            now = clock.monotonic()
            here = [member for at, member in received.values() if now - at < SILENT_S]
            late = [one for member in here if (one := _sends_still(member, sink, number))]
            pids = {member.pid for member in here}
            everybody = now - began >= SILENT_S or (expected and pids.issuperset(expected))
            waits_for = [one for one in late if one.out is None or not obeying]
            if (everybody and not waits_for) or now - began >= within_s:
                return Obeying(late, sorted({*expected} - pids), bool(here))
            await wait_until_set(news, 0.2, clock)
    finally:
        await connection.unlisten(inbox)


def _sends_still(member: Member, sink: str, number: int) -> SendsStill | None:
    state = member.parked.get(sink)
    if state is None or state.number < number:
        return SendsStill(member, None)
    return SendsStill(member, state.out) if state.out else None


class SharedParking:
    """What a worker obeys. ``begin`` with each connection before anything is sent, then ``run``; ``changed``
    is called whenever it may be otherwise than before."""

    def __init__(self, names: StreamNames, clock: Clock, *, look_s: float = 5.0) -> None:
        self.parked: dict[str, Parked] = {}
        self._names = names
        self._clock = clock
        self._look_s = look_s
        self._news = asyncio.Event()

    def is_parked(self, sink: str) -> bool:
        return sink in self.parked

    async def begin(self, connection: NatsConnection) -> None:
        """Raises JetStreamError, BrokerAway."""
        await connection.listen(lambda _: self._news.set(), self._names.entry("parked.*"))
        self.parked = await read_parked(connection, self._names)

    async def run(self, connection: NatsConnection, changed: Callable[[], None]) -> None:
        """Until it is cancelled. Looks by itself, too: what was said may not have been heard. Raises
        BrokerAway."""
        changed()
        while True:
            await wait_until_set(self._news, self._look_s, self._clock)
            self._news.clear()
            before = self.parked
            with suppress(JetStreamError):  # no leader at this moment: it stays as it was
                self.parked = await read_parked(connection, self._names)
            if before != self.parked:
                changed()
