"""The shares that a worker owns, and what was counted of all that it has owned."""

from collections.abc import Iterable

from ingestd.cluster.membership import OwnedShare
from ingestd.cluster.names import Share
from ingestd.cluster.share_owner import ShareOwner
from ingestd.core.ledger import SinkLedger
from ingestd.delivery.lane import Lane


class OwnedShares:
    """``ended``: by sink, what was counted of shares that are owned no more."""

    def __init__(self, sinks: Iterable[str]) -> None:
        self.owners: dict[Share, ShareOwner] = {}
        self.ended = {sink: SinkLedger() for sink in sinks}

    def describe(self) -> list[OwnedShare]:
        return [
            OwnedShare(*share, since=owner.since, lag=owner.lag, in_flight=owner.ledger.in_flight)
            for share, owner in self.owners.items()
            if owner.is_active
        ]

    def owners_of(self, sink: str) -> list[ShareOwner]:
        return [owner for share, owner in self.owners.items() if share.sink == sink]

    def active_lanes(self, sink: str) -> list[Lane]:
        return [owner.lane for owner in self.owners_of(sink) if owner.is_active]

    def lanes(self, sink: str) -> list[Lane]:
        """Also of what only begins, or ends."""
        return [lane for owner in self.owners_of(sink) if (lane := getattr(owner, "lane", None))]

    def out(self, sink: str) -> int:
        """Requests of all its shares that are out."""
        return sum(lane.active for lane in self.lanes(sink))

    def retire(self, share: Share, owner: ShareOwner) -> None:
        """What was counted stays counted; what was on its way is another's, or begins again."""
        total, one = self.ended[share.sink], owner.recorder.ledger
        _add(total, one)
        total.routed -= one.in_flight
        total.in_flight -= one.in_flight

    def ledger_of(self, sink: str) -> SinkLedger:
        """Of all shares that this worker has had."""
        total = SinkLedger()
        _add(total, self.ended[sink])
        for owner in self.owners_of(sink):
            if owner.is_active:
                _add(total, owner.recorder.ledger)
        return total


def _add(total: SinkLedger, one: SinkLedger) -> None:
    for name in SinkLedger.__struct_fields__:
        setattr(total, name, getattr(total, name) + getattr(one, name))
