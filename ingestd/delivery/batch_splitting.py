"""Cutting a batch so that order survives: events of one key stay together. Pure.

Used where a batch is too big (413) or is searched for bad events; ``order.py`` knows the keys.
"""

from collections.abc import Callable, Sequence

from ingestd.core.batch import Batch

Key = str | bytes
KeysOf = Callable[[Sequence[bytes]], list[Key | None]]


def group(batch: Batch, keys_of: KeysOf | None) -> list[list[int]]:
    """Indices of the batch's events, those of one key together; without a key each is on its own."""
    if keys_of is None:
        return [[index] for index in range(len(batch))]
    groups: dict[Key | int, list[int]] = {}
    for index, key in enumerate(keys_of(batch.events)):
        groups.setdefault(index if key is None else key, []).append(index)
    return list(groups.values())


def halve(batch: Batch, keys_of: KeysOf | None) -> tuple[Batch, Batch, bool]:
    """A batch of at least two events in two parts, and whether the second must wait for the first.

    It must if all events are of one key; otherwise no key is in both parts.
    """
    middle = len(batch) // 2
    if keys_of is None or len(groups := group(batch, keys_of)) == len(batch):
        return batch.part(range(middle)), batch.part(range(middle, len(batch))), False
    if len(groups) == 1:
        return batch.part(range(middle)), batch.part(range(middle, len(batch))), True
    first: list[int] = []
    for indices in groups:
        if not first or len(first) + len(indices) <= middle:
            first += indices
    chosen = set(first)
    second = [index for index in range(len(batch)) if index not in chosen]
    return batch.part(sorted(first)), batch.part(second), False
