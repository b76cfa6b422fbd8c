"""In which order changes are carried out: what is needed first, deletes as early as can be. Pure."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import replace

from ingestd.control.engine.change import Action, Change
from ingestd.control.engine.resource import ResourceAddress
from ingestd.control.engine.state import ResourceRecord


def in_order(
    changes: Iterable[Change], records: Mapping[ResourceAddress, ResourceRecord]
) -> tuple[Change, ...]:
    """With ``needs`` filled in; always the same for the same changes. ``records``: what is remembered.

    A resource comes after those it names. One is deleted after all that named it: deleted before it, or
    changed so that they do so no more. Deletes come first where they can: they make room under a limit.
    """
    by_address = {change.address: change for change in changes}
    needs = {address: _needs(change, by_address, records) for address, change in by_address.items()}
    return tuple(replace(by_address[one], needs=frozenset(needs[one])) for one in _sorted(by_address, needs))


def _needs(
    change: Change,
    changes: Mapping[ResourceAddress, Change],
    records: Mapping[ResourceAddress, ResourceRecord],
) -> set[ResourceAddress]:
    if change.wanted is not None:
        return {one for one in change.wanted.after if one in changes and one != change.address}
    return {
        address
        for address, record in records.items()
        if change.address in record.after and address != change.address and address in changes
    }


def _sorted(
    changes: Mapping[ResourceAddress, Change], needs: Mapping[ResourceAddress, set[ResourceAddress]]
) -> list[ResourceAddress]:
    waiting = {address: set(needed) for address, needed in needs.items()}
    ready = [_rank(changes[address]) for address, needed in waiting.items() if not needed]
    heapq.heapify(ready)
    ordered: list[ResourceAddress] = []
    while waiting:
        if not ready:  # a circle of deletes: somewhere one has to begin
            heapq.heappush(ready, min(_rank(changes[address]) for address in waiting))
        address = heapq.heappop(ready)[1]
        if waiting.pop(address, None) is None:
            continue
        ordered.append(address)
        for other, needed in waiting.items():
            if address in needed:
                needed.discard(address)
                if not needed:
                    heapq.heappush(ready, _rank(changes[other]))
    return ordered


def _rank(change: Change) -> tuple[bool, ResourceAddress]:
    return change.action is not Action.DELETE, change.address
