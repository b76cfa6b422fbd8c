"""What became of every event. The one set of counters that report, screen and metrics read."""

import msgspec

from ingestd.core.errors import TooManyRejected
from ingestd.core.reasons import REJECTED, Reason


class Ledger(msgspec.Struct):
    """``accepted = delivered + duplicate + rejected + dead_lettered + unmatched + dropped + in_flight``.

    ``unmatched`` events match the pattern of no sink; ``dropped`` ones were left out by the transforms of all
    sinks that they match. With several sinks an event is resolved here when it is
    resolved at each of them: ``dead_lettered`` if any of them gave it up, else ``delivered``. Each sink has
    its own ``SinkLedger``.

    At a sink with confirmation an event is resolved when the API has said what became of it. Until then it is
    ``in_flight``, here and at the sink, also after a restart. ``delivered`` and ``dead_lettered`` are final.

    Dead letters that are sent again were resolved here before, and are counted beside it:
    ``retried_duplicate`` those that were not sent because their events had been accepted again,
    ``retried_aside`` those that were due, may not be sent without a person, and wait for one now.

    ``in_flight`` is what the receipts of all chunks still wait for; it is counted on its own and
    not derived, so that the balance is a statement that can be wrong, and is tested.
    """

    accepted: int = 0
    delivered: int = 0
    duplicate: int = 0
    rejected: int = 0
    dead_lettered: int = 0
    unmatched: int = 0
    dropped: int = 0
    in_flight: int = 0
    batches: int = 0
    requests: int = 0
    retries: int = 0
    bytes: int = 0
    retried_delivered: int = 0
    retried_duplicate: int = 0
    retried_failed: int = 0
    retried_aside: int = 0
    unmatched_item_errors: int = 0
    by_reason: dict[Reason, int] = msgspec.field(default_factory=dict)

    def count_letters(self, reason: Reason, count: int = 1) -> None:
        """``count`` events became dead letters for ``reason``."""
        if reason in REJECTED:
            self.rejected += count
        else:
            self.dead_lettered += count
        self.by_reason[reason] = self.by_reason.get(reason, 0) + count

    def ended(self) -> int:
        resolved = self.delivered + self.duplicate + self.rejected + self.dead_lettered
        return resolved + self.unmatched + self.dropped

    def balanced(self) -> bool:
        return self.accepted == self.ended() + self.in_flight


_SHARE_FROM = 1000


class MaxRejected(msgspec.Struct, frozen=True):
    """How many events may be rejected: a number, or a ``share`` in percent."""

    limit: float
    share: bool = False

    @classmethod
    def parse(cls, text: str) -> "MaxRejected":
        """``500``, ``0.5%``; nothing is 0. Raises ValueError."""
        text = text.strip() or "0"
        number, share = text.removesuffix("%"), text.endswith("%")
        try:
            found = cls(float(number) if share else int(number), share)
        except ValueError:
            found = cls(-1)
        if not 0 <= found.limit <= (100 if share else 10**12):
            raise ValueError(f"{text!r} is neither a number of events, as 500, nor a share of them, as 1%")
        return found

    def exceeded_by(self, ledger: Ledger, *, at_end: bool = True) -> bool:
        """Before the end, less than a thousand events count as a thousand."""
        if not self.share:
            return ledger.rejected > self.limit
        of = ledger.accepted if at_end else max(ledger.accepted, _SHARE_FROM)
        return ledger.rejected * 100 > of * self.limit

    def error(self, ledger: Ledger) -> TooManyRejected:
        """For a replay that ends because of it."""
        return TooManyRejected(
            f"{ledger.rejected:,} of {ledger.accepted:,} events are rejected, more than --max-rejected"
            " allows: see the dead letters; the same command goes on behind them"
        )


class SinkLedger(msgspec.Struct):
    """Of one sink: ``routed = delivered + dead_lettered + dropped + in_flight``, at every moment.

    ``confirming``: those in flight that the API has accepted, and has yet to say what became of them.
    """

    routed: int = 0
    delivered: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    in_flight: int = 0
    confirming: int = 0
    batches: int = 0
    requests: int = 0
    retries: int = 0
    bytes: int = 0
    retried_delivered: int = 0
    retried_duplicate: int = 0
    retried_failed: int = 0
    retried_aside: int = 0

    def balanced(self) -> bool:
        return self.routed == self.delivered + self.dead_lettered + self.dropped + self.in_flight
