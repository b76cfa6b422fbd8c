"""``POST /api/v2/events/ingest``: the batch ingestion API of the seed "Ingest … via HTTP API"."""

from collections.abc import Callable, Sequence
from typing import Literal

from ingestd.core.address import show_url
from ingestd.core.answer import Answer
from ingestd.core.chunk import frame
from ingestd.core.setting_types import field
from ingestd.core.shared_body import Frame
from ingestd.core.verdict import Verdict
from ingestd.sinks.answers import DEFAULT, AnswerReader
from ingestd.sinks.settings import TYPE, HttpSinkConfig, SinkBasis
from ingestd.sinks.sink import Sink, system_wall

PATH = "/api/v2/events/ingest"
_FRAME = Frame(b'{"events":[', b",", b"]}")


class IngestApi:
    """Body ``{"events":[…]}`` with the events' own bytes; any 2xx is success."""

    kind = "ingest_api"
    frame = _FRAME
    overhead_bytes = _FRAME.overhead_bytes
    separator_bytes = len(_FRAME.separator)

    def __init__(
        self,
        api: str,
        *,
        name: str = "ingest_api",
        max_bytes: int = 1_000_000,
        max_events: int = 1_000_000,
        reading: AnswerReader = DEFAULT,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self.url = api.rstrip("/") + PATH
        self.shown_url = show_url(self.url)
        self.max_bytes, self.max_events = max_bytes, max_events
        self._reading = reading
        self._wall = wall or system_wall()

    def sizes(self, events: Sequence[bytes]) -> None:
        """Events go as the bytes they came in as."""

    def encode(self, events: Sequence[bytes]) -> bytes:
        return frame(*_FRAME, events)

    def headers(self, batch_id: str, events: Sequence[bytes]) -> dict[str, str]:
        return {"Content-Type": "application/json", "X-Request-Id": batch_id, "Idempotency-Key": batch_id}

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        return self._reading.read(answer, events, now_wall=self._wall())


class IngestApiConfig(HttpSinkConfig):
    """``POST {api}/api/v2/events/ingest`` (the default)."""

    type: Literal["ingest_api"] = field(description=TYPE)

    def make(self, basis: SinkBasis) -> Sink:
        return IngestApi(
            basis.url(),
            name=basis.name,
            max_bytes=basis.max_bytes,
            max_events=basis.max_events,
            reading=basis.reader,
            wall=basis.wall,
        )
