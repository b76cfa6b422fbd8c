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
        return b"%b%b%b" % (_PREFIX, _SEPARATOR.join(events), _SUFFIX)

    def headers(self, batch_id: str) -> dict[str, str]:
        return {"Content-Type": "application/json", "X-Request-Id": batch_id, "Idempotency-Key": batch_id}

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        items: tuple[ItemError, ...] = ()
        unmatched = 0
        if len(answer.body) > 2 and (200 <= answer.status < 300 or answer.status in (400, 422)):
            ids = functools.cache(lambda: item_errors.ids_of(events))
            items, unmatched = item_errors.find(answer.body, len(events), ids)
        return answers.meaning_of(answer, now_wall=self._wall(), items=items, unmatched=unmatched)
