"""Any URL that takes JSON; also Genesys' ``/api/v2/integrations/webhooks/{token}/events``.

What an answer means: Standard Webhooks 1.0.0, "Operational considerations". Its signature and timestamp are
new for each attempt, so the transport adds them; its id is made here.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from msgspec.structs import replace

from ingestd.core.address import show_host, show_url
from ingestd.core.answer import Answer
from ingestd.core.chunk import frame
from ingestd.core.regex import regex
from ingestd.core.setting_types import AS_OBJECT, Secret, SecretFile, field
from ingestd.core.shared_body import Frame
from ingestd.core.verdict import Meaning, Verdict
from ingestd.sinks.answers import DEFAULT, AnswerReader
from ingestd.sinks.settings import TYPE, HttpSinkConfig, SinkBasis
from ingestd.sinks.sink import Sink, content_id, system_wall

RESERVED = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("content-encoding", "content-length", "expect", "host", "authorization", "proxy-authorization"),
        *("idempotency-key", "x-request-id", "webhook-id", "webhook-signature", "webhook-timestamp"),
    }
)
"""Headers that are the program's own business; credentials are set under ``auth``."""
MAX_HEADERS_BYTES = 8_000
_NAME = regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110 section 5.1
_VALUE = regex(r"(?:[!-~](?:[ \t!-~]*[!-~])?)?")  # section 5.5, without the obsolete bytes
_TOKEN_PATH = regex(r"/webhooks/[^/]")
_WORD = regex(r"[a-z_-]{,19}")
_MIN_SECRET_CHARS = 8
_MAX_SECRETS = 64
_THROTTLED = frozenset({502, 504})  # besides 429 and 503, as for all sinks


_FRAMES = {  # and the media type
    "event": (Frame(b"", b"", b""), "application/json"),
    "array": (Frame(b"[", b",", b"]"), "application/json"),
    "ndjson": (Frame(b"", b"\n", b"\n"), "application/x-ndjson"),
}


class WebhookSink:
    """``body``: event (one a request), array (a JSON array) or ndjson (one event a line).

    ``headers``: sent with every request. ``secret_url``: the URL is shown as its host only; so it is
    anyway where its path has a token (``/webhooks/{token}``). Raises ValueError for headers that cannot be.
    """

    kind = "webhook"

    def __init__(
        self,
        *,
        url: str,
        name: str = "webhook",
        body: Literal["event", "array", "ndjson"] = "event",
        headers: Mapping[str, str] | None = None,
        secret_url: bool = False,
        max_bytes: int = 1_000_000,
        max_events: int = 100,
        reading: AnswerReader = DEFAULT,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self._secret_url = secret_url
        self._secrets: tuple[str, ...] = ()
        self.move(url)
        self._single = body == "event"
        self._frame, media_type = _FRAMES[body]
        self.frame = self._frame if body == "array" else None
        self.overhead_bytes = self._frame.overhead_bytes
        self.separator_bytes = len(self._frame.separator)
        self.max_bytes = max_bytes
        self.max_events = 1 if self._single else max_events
        self._headers = check_headers(headers or {})
        if "content-type" not in {header.lower() for header in self._headers}:
            self._headers["Content-Type"] = media_type
        self._lines = body == "ndjson"
        self._reading = reading
        self._wall = wall or system_wall()

    def move(self, url: str) -> None:
        """Requests go to ``url`` from now on: it stands in a file that has changed."""
        self.url = url
        parts = urlsplit(url)
        is_secret = self._secret_url or _TOKEN_PATH.search(parts.path) is not None
        self.shown_url = show_host(url) if is_secret else show_url(url)
        found = _secrets_of(url, path_too=is_secret)
        # what comes back may still quote the one before
        self._secrets = tuple(dict.fromkeys((*found, *self._secrets)))[:_MAX_SECRETS]

    def sizes(self, events: Sequence[bytes]) -> None:
        """Events go as the bytes they came in as; a line break within one becomes a space."""

    def encode(self, events: Sequence[bytes]) -> bytes:
        if self._single and len(events) == 1:
            return events[0]
        if self._lines:  # in JSON, a line break can only stand between tokens
            events = [event.replace(b"\n", b" ").replace(b"\r", b" ") for event in events]
        return frame(*self._frame, events)

    def headers(self, batch_id: str, events: Sequence[bytes]) -> dict[str, str]:
        message_id = content_id(events[0]) if self._single else batch_id
        return {
            **self._headers,
            "X-Request-Id": batch_id,
            "Idempotency-Key": message_id,
            "webhook-id": message_id,
        }

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        """Of a single event the status decides, unless paths into the body are set."""
        if self._secrets:
            answer = self._without_url(answer)
        now_wall = self._wall()
        if self._single and self._reading.paths is None:
            verdict = self._reading.verdict(answer, now_wall=now_wall)
        else:
            verdict = self._reading.read(answer, events, now_wall=now_wall)
        if answer.status in _THROTTLED and verdict.meaning is Meaning.RETRY:
            return verdict.but(slow_down=True)
        return verdict

    def _without_url(self, answer: Answer) -> Answer:
        """An error page likes to quote the path."""
        body, location, error = answer.body, answer.headers.get("location", ""), answer.error
        for secret in self._secrets:
            body = body.replace(secret.encode(), b"***")
            location, error = location.replace(secret, "***"), error.replace(secret, "***")
        headers = {**answer.headers, "location": location} if location else answer.headers
        return replace(answer, body=body, headers=headers, error=error)


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """A copy. Raises ValueError, without the value, which may be a secret."""
    seen: set[str] = set()
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name[:60]!r} is not the name of a header")
        if name.lower() in RESERVED:
            raise ValueError(f"the header {name} is set by the program itself; credentials go under auth")
        if name.lower() in seen:
            raise ValueError(f"the header {name} is there twice")
        if not _VALUE.fullmatch(value):
            raise ValueError(
                f"the header {name}: expected ASCII characters, no line break, no blank at its ends"
            )
        seen.add(name.lower())
    size = sum(len(name) + len(value) for name, value in headers.items())
    if size > MAX_HEADERS_BYTES:
        raise ValueError(f"the headers have {size} bytes, at most {MAX_HEADERS_BYTES}")
    return dict(headers)


def _secrets_of(url: str, *, path_too: bool) -> tuple[str, ...]:
    """What must not be seen of the URL, the longest first; ordinary words of a path are none."""
    parts = urlsplit(url)
    found = {parts.query, *re.split("[&=]", parts.query)}
    if path_too:
        found |= {parts.path, *(part for part in parts.path.split("/") if not _WORD.fullmatch(part))}
    return tuple(sorted((text for text in found if len(text) >= _MIN_SECRET_CHARS), key=len, reverse=True))


_GENESYS_WEBHOOK = "/api/v2/integrations/webhooks/"


class WebhookConfig(HttpSinkConfig):
    """Any URL that takes JSON, one event a request or several as an array."""

    type: Literal["webhook"] = field(description=TYPE)
    secret_url: bool = field(False, description="the URL is a secret and must not be shown")
    url_file: SecretFile = field("", description="a file that holds the URL and nothing else")
    body: Literal["event", "array", "ndjson"] = field(
        "event", description="event: one in each request; array, ndjson: many"
    )
    headers: Annotated[dict[str, Secret], AS_OBJECT] = field(
        {}, max_length=50, description="headers of every request; their values are never shown"
    )
    handshake_origin: str = field(
        "",
        description="origin for the CloudEvents web-hook handshake; empty: no handshake",
    )

    at_api: ClassVar[bool] = False

    def make(self, basis: SinkBasis) -> Sink:
        return WebhookSink(
            url=basis.own_url,
            name=basis.name,
            body=self.body,
            headers={name: value.get_secret_value() for name, value in self.headers.items()},
            secret_url=self.secret_url or bool(self.url_file),
            max_bytes=basis.max_bytes,
            max_events=basis.max_events,
            reading=basis.reader,
            wall=basis.wall,
        )

    @property
    def expects_json(self) -> bool:
        """Standard Webhooks takes any 2xx."""
        return False

    @property
    def is_single(self) -> bool:
        return self.body == "event"

    def check(self, place: str) -> None:
        if not (self.url or self.url_file):
            raise ValueError(f"{place} has no url, and no url_file")
        if self.body != "event" and _GENESYS_WEBHOOK in self.url:
            raise ValueError(f'{place}.body: a webhook of Genesys Cloud takes one object a request: "event"')

    @property
    def is_secret(self) -> bool:
        """Whether who knows the URL may post there."""
        return self.secret_url or "/webhooks/" in self.url

    @property
    def secret_urls(self) -> tuple[str, ...]:
        return ("url",) if self.is_secret else ()
