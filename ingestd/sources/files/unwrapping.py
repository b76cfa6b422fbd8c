"""Events taken out of the envelopes that a file holds. Used by ``jsonl.py``, in its worker thread."""

from collections.abc import Iterator

import msgspec

from ingestd.core.unwrap import NotWrapped, Unwrapper
from ingestd.schemas.grammar import find_fault
from ingestd.sources.files.splitter import Region

_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _elements(array: bytes) -> list[bytes]:
    try:
        return [bytes(one) for one in _list(array)]
    except (ValueError, RecursionError):
        return [array]  # the schema says what is wrong with it


def unwrapped(region: Region, unwrap: Unwrapper) -> Region:
    """The same bytes of the stream, with the events that its envelopes hold: of a list, its elements. What
    holds none stays, and ``unreadable`` says why. Depends on the region alone, as after a restart."""
    events, places = list[bytes](), list[tuple[int, int]]()
    too_long, unreadable = dict[int, int](), dict[int, str]()
    for index, line in enumerate(region.events):
        offset, number = region.locate(index)
        if index in region.too_long:
            too_long[len(events)] = region.too_long[index]
            events.append(line)
            places.append((offset, number))
            continue
        for first, event, why in _events_of(bytes(line), unwrap):
            if why:
                unreadable[len(events)] = why
            events.append(event)
            places.append((offset + first, number))
    return msgspec.structs.replace(
        region, events=events, locate=places.__getitem__, too_long=too_long, unreadable=unreadable
    )


def _events_of(line: bytes, unwrap: Unwrapper) -> Iterator[tuple[int, bytes, str]]:
    """(offset of its envelope, event, why it is none) of a line, which may be several envelopes."""
    try:
        yield from ((0, event, why) for event, why in unwrap.each(line, _elements))
    except NotWrapped:
        from ingestd.sources.files.salvage import events_in

        for first, envelope in events_in(line):
            yield from ((first, event, why) for event, why in _try(envelope, unwrap))


def _try(envelope: bytes, unwrap: Unwrapper) -> list[tuple[bytes, str]]:
    try:
        return unwrap.each(envelope, _elements)
    except NotWrapped as error:
        return [(envelope, "it is not JSON" if find_fault(envelope) else str(error))]
