"""How much of the partitions is there to be read, and how much of it is on its way."""

from collections.abc import Mapping

from ingestd.sources.broker.source import SourceCounts
from ingestd.sources.kafka.client import TopicPart
from ingestd.sources.kafka.partitions import Partitions


def count(found: Mapping[TopicPart, tuple[int, int]], partitions: Partitions, counts: SourceCounts) -> None:
    """``found``: first and last offset that the brokers have; empty where they did not say."""
    mine = partitions.by_place
    known = [(mine[place], *bounds) for place, bounds in found.items() if place in mine]
    if known or not any(one.is_assigned for one in partitions):
        counts.pending = sum(max(0, last - one.read_to) for one, _, last in known)
        mine_open = [one for one, _, _ in known if not one.is_settled]
        counts.unacked = sum(max(0, one.consumed - one.resolved) for one in mine_open)
        counts.stranded = sum(max(0, first - one.read_to) for one, first, _ in known)
