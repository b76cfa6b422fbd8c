"""Events taken out of the envelopes of a request. Used by ``endpoint.py``."""

from collections.abc import Sequence
from functools import partial

from ingestd.core.unwrap import NotWrapped, Unwrapper
from ingestd.httpd.problem import RefusedRequest
from ingestd.sources.http.body import elements_of, too_many
from ingestd.sources.http.sequence import SequenceTooDense


def unwrapped(
    envelopes: Sequence[bytes], unwrap: Unwrapper, max_events: int
) -> tuple[list[bytes], dict[int, str]]:
    """(events, why those at these places are none): of a list in an envelope its elements. What is not an
    envelope of an event stays as it came. Raises Refused: 413 for too many events."""
    unreadable: dict[int, str] = {}
    found: list[bytes] = []
    split = partial(_listed, max_events=max_events)
    for envelope in envelopes:
        try:
            found += unwrap.each(envelope, split)
        except NotWrapped as error:
            unreadable[len(found)] = str(error)
            found.append(envelope)
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
