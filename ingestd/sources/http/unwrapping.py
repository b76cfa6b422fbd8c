"""Events taken out of the envelopes of a request. Used by ``endpoint.py``."""

from collections.abc import Sequence

from ingestd.core.unwrap import NotWrapped, Unwrapper
from ingestd.httpd.problem import RefusedRequest
from ingestd.sources.http.body import elements_of, too_many
from ingestd.sources.http.sequence import SequenceTooDense

_MOST_ELEMENTS = 4
"""Of all lists together, for each event that may be in a request: those that hold none take time, too."""


def unwrapped(
    envelopes: Sequence[bytes], unwrap: Unwrapper, max_events: int
) -> tuple[list[bytes], dict[int, str]]:
    """(events, why those at these places are none): of a list in an envelope its elements. What
    holds no event stays as it came. Raises Refused: 413 for too many events, or elements on the way."""
    unreadable: dict[int, str] = {}
    found: list[bytes] = []
    left = _MOST_ELEMENTS * max_events

    def split(value: bytes) -> Sequence[bytes]:
        nonlocal left
        elements = _listed(value, max_events)
        if (left := left - len(elements)) < 0:
            raise too_many(max_events)
        return elements

    for envelope in envelopes:
        try:
            inside = unwrap.each(envelope, split, max_events)
        except NotWrapped as error:
            inside = [(envelope, str(error))]
        unreadable.update({at: why for at, (_, why) in enumerate(inside, len(found)) if why})
        found += [event for event, _ in inside]
        if len(found) > max_events:
            raise too_many(max_events)
    return found, unreadable


def _listed(value: bytes, max_events: int) -> Sequence[bytes]:
    """What cannot be taken apart is one event, and the schema says what is wrong with it."""
    try:
        return elements_of(value, max_events)
    except SequenceTooDense:
        return [value]
    except RefusedRequest as refused:
        if refused.response.status == 413:
            raise
        return [value]
