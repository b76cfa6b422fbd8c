"""What sources at brokers have in common besides the contract of sources."""

from dataclasses import dataclass

from ingestd.core.errors import UserError


class BrokerAway(UserError):
    """It cannot be reached, or does not serve what is to be read: that may end by itself."""


@dataclass(slots=True)
class SourceCounts:
    """For metrics; ``messages`` and ``redelivered`` never fall. ``pending``: messages that are yet to be
    given out; ``unacked``: that are on their way; ``stranded``: that nobody will be given."""

    connected: bool = False
    messages: int = 0
    redelivered: int = 0
    pending: int = 0
    unacked: int = 0
    stranded: int = 0
