"""Which remote resource a table means: by natural key, else by what the state says. Pure; for plans."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from ingestd.control.engine.resource import RemoteResource, ResourceAddress, Wanted
from ingestd.control.engine.state import ControlState

MatchedResources = Mapping[ResourceAddress, RemoteResource]
Doubles = Mapping[ResourceAddress, tuple[RemoteResource, ...]]


def match(
    wanted: Iterable[Wanted], there: Iterable[RemoteResource], state: ControlState
) -> tuple[MatchedResources, Doubles]:
    """(what each table means, tables that match several resources).

    A renamed table finds its resource by its key, a changed key by the table's name.
    """
    by_key = defaultdict[tuple[str, str], list[RemoteResource]](list)
    by_id = {(found.kind, found.id): found for found in there}
    for found in by_id.values():
        by_key[found.kind, found.key].append(found)
    matches, doubles, rest = (
        dict[ResourceAddress, RemoteResource](),
        dict[ResourceAddress, tuple[RemoteResource, ...]](),
        list[Wanted](),
    )
    for one in wanted:
        candidates = by_key[one.kind, one.key]
        chosen = _known_best(one, candidates, state)
        if chosen:
            matches[one.address] = chosen
        elif candidates:
            doubles[one.address] = tuple(candidates)
        else:
            rest.append(one)
    matched = {(found.kind, found.id) for found in matches.values()}
    for one in rest:
        known = [record.id for record in state.records(one.kind) if record.name == one.name]
        free = [its_id for its_id in known if (one.kind, its_id) in by_id.keys() - matched]
        if len(free) == 1:
            matches[one.address] = by_id[one.kind, free[0]]
            matched.add((one.kind, free[0]))
    return matches, doubles


def _known_best(
    wanted: Wanted, candidates: list[RemoteResource], state: ControlState
) -> RemoteResource | None:
    """Of several with the same key: the one remembered for this table, or the only one that is ours."""
    if len(candidates) == 1:
        return candidates[0]
    records = [(found, state.record(found.kind, found.id)) for found in candidates]
    for good in (
        [found for found, record in records if record and record.name == wanted.name],
        [found for found, record in records if record],
    ):
        if len(good) == 1:
            return good[0]
    return None
