"""What all workers know of a rate that they share: tokens, slots, and until when nobody sends. Pure.

It is one entry in the spool's state, changed by compare-and-set; its time is the server's. A worker takes a
few tokens at once and uses them within ``LEASE_S``, or they are lost: so one that stands still, or dies,
sends nothing late. Slots are for requests that are out at a time; they are held for ``LEASE_S``, too.
"""

from collections.abc import Mapping

import msgspec

LEASE_S = 2.0
SET_BACK_S = 10.0
"""An entry that is so far ahead of its time tells that the server's clock was set back."""
_MINUTE_S = 60.0


class SharedLimit(msgspec.Struct, frozen=True):
    """Of all workers together; 0: no limit of that kind. ``in_flight``: at least 1."""

    requests_per_minute: int
    events_per_second: float
    in_flight: int

    @property
    def burst(self) -> int:
        """Requests that are taken at once: what may be sent in half a second."""
        return max(1, self.requests_per_minute // 120)

    @property
    def requests_per_second(self) -> float:
        """So that in any minute there are never more than the limit: tokens of up to ``LEASE_S`` before it
        may be used in it, and those that had gathered."""
        return max(1, self.requests_per_minute - self.burst) / (_MINUTE_S + LEASE_S)


class Slots(msgspec.Struct, array_like=True):
    """Of one worker. ``since``: when it got the first of them; ``until``: then they are free again."""

    count: int
    until: float
    since: float


class RateEntry(msgspec.Struct, array_like=True):
    """``at``: when tokens were counted last; ``closed_until``: the API said so."""

    requests: float = 0.0
    events: float = 0.0
    at: float = 0.0
    closed_until: float = 0.0
    slots: dict[str, Slots] = {}


class RateWish(msgspec.Struct):
    """What a worker asks for: tokens, and slots beside those of its ``active`` requests. ``closed_until``:
    the API told it so."""

    requests: int = 0
    events: float = 0.0
    more: int = 0
    active: int = 0
    closed_until: float = 0.0


class RateGrant(msgspec.Struct):
    """What it gets. ``slots``: that it holds now; ``wait_s``: sooner there will not be more."""

    requests: int = 0
    events: float = 0.0
    slots: int = 0
    closed_until: float = 0.0
    wait_s: float = 0.0


def grant(
    entry: RateEntry, limit: SharedLimit, worker: str, wish: RateWish, now: float
) -> tuple[RateEntry, RateGrant]:
    """The entry as it is then. ``now``: on the server's clock; one that was set back costs a little time, and
    gives nothing."""
    if entry.at - now > SET_BACK_S:
        entry = _moved(entry, now - entry.at)
    passed_s = max(0.0, now - entry.at) if entry.at else 0.0
    requests = min(float(limit.burst), entry.requests + passed_s * limit.requests_per_second)
    rate = limit.events_per_second
    events = min(max(1.0, rate), entry.events + passed_s * rate)
    closed_until = max(entry.closed_until, wish.closed_until)
    given = RateGrant(closed_until=closed_until)
    slots = {name: one for name, one in entry.slots.items() if one.until > now and name != worker}
    had = mine if (mine := entry.slots.get(worker)) and mine.until > now else None
    if had or wish.more or wish.active:
        given.slots = _slots(slots, had, limit.in_flight, wish, now)
        since = had.since if had and had.count and given.slots else now
        if given.slots or wish.more:  # of one that has none the others learn that it waits
            slots[worker] = Slots(given.slots, now + LEASE_S, since)
    if now >= closed_until and given.slots > wish.active:  # tokens of one that may not send would be lost
        given.requests = min(wish.requests, int(requests)) if limit.requests_per_minute else 0
        given.events = min(wish.events, events) if rate else 0.0
        if limit.requests_per_minute and wish.requests and not given.requests:
            given.wait_s = (1.0 - requests) / limit.requests_per_second
    at = max(now, entry.at)
    return RateEntry(requests - given.requests, events - given.events, at, closed_until, slots), given


def _moved(entry: RateEntry, by_s: float) -> RateEntry:
    """All of its times on the clock as it is now; what had gathered is kept, and nothing has come since."""
    slots = {name: Slots(one.count, one.until + by_s, one.since + by_s) for name, one in entry.slots.items()}
    closed_until = entry.closed_until and entry.closed_until + by_s
    return RateEntry(entry.requests, entry.events, entry.at + by_s, closed_until, slots)


def still_good(before: RateEntry, after: RateEntry, worker: str, now: float) -> bool:
    """Whether ``after`` says nothing that ``before`` does not: it need not be written. What a worker holds is
    renewed when half of its time is over."""
    if before.at - now > SET_BACK_S:
        return False
    old, new = before.slots.get(worker), after.slots.get(worker)
    if old is None or new is None:
        return old is new and before.closed_until == after.closed_until
    held = old.count == new.count and old.until - now > LEASE_S / 2
    return held and before.closed_until == after.closed_until


def _slots(others: Mapping[str, Slots], had: Slots | None, most: int, wish: RateWish, now: float) -> int:
    """As many as it wants, its part where another wants some and has none; what is out stays counted. Where
    there are more workers than slots, who has had one longest gives it away."""
    free = max(0, most - sum(one.count for one in others.values()))
    wants = min(wish.active + wish.more, free)
    held = had.count if had else 0
    if any(not one.count for one in others.values()):
        part = max(1, most // (1 + len(others)))
        if most <= len(others) and had and held and now - had.since > LEASE_S:
            part = int(any(had.since > one.since for one in others.values() if one.count))
        wants = min(wants, part)
    return max(wants, min(wish.active, held))
