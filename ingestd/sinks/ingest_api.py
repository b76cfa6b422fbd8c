"""``POST /api/v2/events/ingest``: the batch ingestion API of the seed "Ingest … via HTTP API"."""

import functools
import time
from collections.abc import Callable, Sequence

from ingestd.core.answer import Answer
from ingestd.core.verdict import ItemError, Verdict
from ingestd.sinks import answers, item_errors

PATH = "/api/v2/events/ingest"
_PREFIX, _SEPARATOR, _SUFFIX = b'{"events":[', b",", b"]}"


class IngestApi:
    """Body ``{"events":[…]}`` with the events' own bytes; any 2xx is success."""

    name = "ingest_api"
    overhead_bytes = len(_PREFIX) + len(_SUFFIX)
    separator_bytes = len(_SEPARATOR)

    def __init__(self, api: str, *, wall: Callable[[], float] = time.time) -> None:
        self.url = api.rstrip("/") + PATH
        self._wall = wall

    def encode(self, events: Sequence[bytes]) -> bytes:
        if not events:
            return _PREFIX + _SUFFIX
        framed = list(events)  # the frame goes into the join: half a megabyte is copied once, not twice
        framed[0] = _PREFIX + framed[0]
        framed[-1] += _SUFFIX
        return _SEPARATOR.join(framed)

    def headers(self, batch_id: str) -> dict[str, str]:
        return {"Content-Type": "application/json", "X-Request-Id": batch_id, "Idempotency-Key": batch_id}

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        items: tuple[ItemError, ...] = ()
        unmatched = 0
        if len(answer.body) > 2 and (200 <= answer.status < 300 or answer.status in (400, 422)):
            ids = functools.cache(lambda: item_errors.ids_of(events))
            taken = answer.status < 300  # if not, one by one will tell whom a shared id meant
            items, unmatched = item_errors.find(answer.body, len(events), ids, shared_ids=taken)
        if answer.truncated and 200 <= answer.status < 300:
            unmatched += 1  # it may have named events in what was cut off
        return answers.meaning_of(answer, now_wall=self._wall(), items=items, unmatched=unmatched)
