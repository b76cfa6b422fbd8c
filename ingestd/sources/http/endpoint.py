"""The endpoint: what a request to the ingest address means. The wire calls it, it calls admission.

    check_head: route ─▶ who ─▶ length, format ─▶ room?      (before the body is read)
    handle:     signature ─▶ decode ─▶ take apart ─▶ quota ─▶ Submission ─▶ ... ─▶ answer
                └──── beside the loop where the body is large ────┘

Nothing of a request is logged here: it may hold tokens and personal data.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from ingestd.core.clock import Clock
from ingestd.core.redaction import redact
from ingestd.core.sequences import COMPILED
from ingestd.core.submission import (
    ONE_ACCEPTED,
    AcceptedSubmission,
    DeferredSubmission,
    Result,
    Submission,
)
from ingestd.core.unwrap import Unwrapper
from ingestd.httpd.problem import JSON_TYPE, OUR_FAULT, RefusedRequest, problem
from ingestd.httpd.request import Request
from ingestd.httpd.response import Response
from ingestd.sources.http.access_tokens import MAX_BODY_BYTES, TOKEN_PATH
from ingestd.sources.http.answers import INVALID, in_full, words_of
from ingestd.sources.http.aside import BodyWorker, at_once
from ingestd.sources.http.auth import Authenticator
from ingestd.sources.http.body import (
    NO_QUERY,
    Format,
    Query,
    check_coding,
    decode,
    format_of,
    parse_query,
    take_apart,
)
from ingestd.sources.http.client_address import TrustedProxies
from ingestd.sources.http.cloudevents_http import to_structured
from ingestd.sources.http.quota import Quotas
from ingestd.sources.http.unwrapping import unwrapped
from ingestd.sources.http.webhook_handshake import ALLOW, answer_options

logger = logging.getLogger(__name__)

PATH = "/v1/events"
LIGHT_BYTES = 256 * 1024
LIGHT_CODED_BYTES = 16 * 1024
"""Up to here a body is unpacked on the loop; what is compressed may grow by ``max_expansion``."""
_MAX_LENGTH_DIGITS = 18
_ALL_READABLE: Mapping[int, str] = {}


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """``max_body_bytes`` holds before and after decoding; ``webhook_rate`` is requests a minute, 0: any."""

    max_events: int = 20_000
    max_body_bytes: int = 16 * 1024 * 1024
    max_expansion: int = 100
    wait_timeout_s: float = 30.0
    webhook_origins: tuple[str, ...] = ()
    webhook_rate: int = 0
    access_token_in_query: bool = False
    unwrap: Unwrapper | None = None
    """For producers that have none of their own."""
    trusted_proxies: TrustedProxies | None = None


class HeadReading(NamedTuple):
    """What the head of a request for events says, apart from its sender. ``settings``: by which it was
    judged."""

    settings: EndpointSettings
    query: Query
    format: Format
    coding: str | None


class Unpacked(NamedTuple):
    producer: str
    events: Sequence[bytes]
    unreadable: Mapping[int, str]


class NotUnpacked(NamedTuple):
    response: Response
    why: str


OnRefused = Callable[[str, str, int, str], None]
"""(producer or empty, its address, status, why it is refused or has to wait)."""


def nobody_asks(producer: str, address: str, status: int, why: str) -> None:
    """Refusals are told to their producers only."""


class AdmissionService(Protocol):
    def submit(self, submission: Submission) -> None:
        """Take the events of a request; the submission is called back with its answer."""
        ...

    def unavailable(self) -> DeferredSubmission | None:
        """Why nothing can be taken now; None when it can."""
        ...


class Endpoint:
    """An ``Application`` of the wire. ``refused`` is called with what is not accepted. ``settings`` and
    ``authenticator`` may be replaced at any time: a request whose head was checked before is judged by the
    new ones."""

    def __init__(
        self,
        settings: EndpointSettings,
        authenticator: Authenticator,
        admission: AdmissionService,
        clock: Clock,
        aside: BodyWorker = at_once,
        refused: OnRefused = nobody_asks,
    ) -> None:
        self.settings = settings
        self._admission = admission
        self._aside = aside
        self._refused = refused
        self._quotas = Quotas(clock)
        self.authenticator = authenticator

    @property
    def authenticator(self) -> Authenticator:
        return self._authenticator

    @authenticator.setter
    def authenticator(self, new: Authenticator) -> None:
        self._authenticator = new
        self._quotas.configure(new.producers)

    def check_head(self, request: Request) -> Response | None:
        """The refusal that the head alone calls for, so that its body is not read."""
        if proxies := self.settings.trusted_proxies:
            request.peer = proxies.client_of(request)
        producer: str | None = None
        try:
            known: HeadReading | None = request.reading
            if known is not None and known.settings is self.settings:
                producer = self._by_head(request, known.query)
            elif not self._is_for_events(request):
                return None
            else:
                query = self._query(request)
                producer = self._by_head(request, query)
                request.reading = self._read_head(request, query)
        except RefusedRequest as refused:
            return self._note_refused(request, producer, refused.response, str(refused))
        deferred = self._admission.unavailable() or (self._quotas.check(producer) if producer else None)
        return (
            self._note_refused(request, producer, answer_to(deferred), deferred.detail) if deferred else None
        )

    def handle(self, request: Request) -> None:
        """Respond now, or when admission has the answer. For a request whose head was let pass."""
        known: HeadReading | None = request.reading
        if known is None and request.path == TOKEN_PATH:
            answer = self._authenticator.tokens.answer(request)
            wanted = answer.status < 400
            request.reply(answer if wanted else self._note_refused(request, None, answer, "no access token"))
            return
        if known is None and request.method == "OPTIONS":
            origins, rate = self.settings.webhook_origins, self.settings.webhook_rate
            request.reply(answer_options(request, origins=origins, rate=rate))
            return
        try:
            if known is None or known.settings is not self.settings:
                request.reading = known = self._read_head(request, self._query(request))
            query = known.query
            producer = self._by_head(request, query)
        except RefusedRequest as refused:
            request.reply(self._note_refused(request, None, refused.response, str(refused)))
            return
        limit = LIGHT_BYTES if known.coding is None else LIGHT_CODED_BYTES
        if len(request.body) <= limit:
            self._unpacked(request, query, producer, self._unpack(request, producer))
        else:
            work = partial(self._unpack, request, producer)
            self._aside(work, partial(self._unpacked, request, query, producer))

    def _note_refused(self, request: Request, producer: str | None, response: Response, why: str) -> Response:
        self._refused(producer or "", request.peer, response.status, redact(why))
        return response

    def _unpack(self, request: Request, producer: str | None) -> Unpacked | NotUnpacked:
        """What is in the body, or why it is refused. May run beside the loop.

        Errors end here: their frames would keep the body in memory for as long as somebody has them.
        """
        try:
            if producer is None:
                producer = self._authenticator.by_signature(request)
            return self._unwrapped(producer, self._events(request))
        except RefusedRequest as refused:
            return NotUnpacked(refused.response, str(refused))
        except Exception:
            logger.exception("a body could not be taken apart")
            return NotUnpacked(OUR_FAULT, "a fault of the service")

    def _unpacked(
        self, request: Request, query: Query, known: str | None, found: Unpacked | NotUnpacked
    ) -> None:
        request.body = b""  # what is needed of it are the events
        if isinstance(found, NotUnpacked):
            request.reply(self._note_refused(request, known, *found))
            return
        producer, events, unreadable = found
        if request.gone:  # its producer still has the events
            return
        if not events:
            request.reply(NOTHING_SENT)
            return
        deferred = self._quotas.charge(producer, len(events)) if producer else None
        if deferred:
            request.reply(self._note_refused(request, producer, answer_to(deferred), deferred.detail))
            return
        compiled = isinstance(events, COMPILED)
        size_bytes = events.size_bytes if compiled else sum(map(len, events))  # type: ignore[attr-defined]
        self._admission.submit(
            Submission(
                events,
                partial(self._answer, request, producer, len(events)),
                size_bytes,
                producer,
                query.atomic,
                self.settings.wait_timeout_s if query.wait else 0.0,
                unreadable=unreadable,
                span=request.span,
            )
        )

    def _answer(self, request: Request, producer: str, count: int, result: Result) -> None:
        if result is ONE_ACCEPTED:
            request.reply(_ONE_ACCEPTED)
            return
        if isinstance(result, DeferredSubmission):
            self._quotas.give_back(producer, count)
            self._refused(producer, request.peer, result.status, redact(result.detail))
        response = answer_to(result)
        if response.status == INVALID and isinstance(result, AcceptedSubmission):
            self._refused(producer, request.peer, INVALID, redact(words_of(result)))
        request.reply(response)

    def _is_for_events(self, request: Request) -> bool:
        """Else it asks for a token, or may it send. Raises Refused for anything else."""
        if request.path == TOKEN_PATH and self._authenticator.tokens:
            self._check_token_request(request)
            return False
        if request.path != PATH:
            raise RefusedRequest(404, f"there is nothing here; events go to POST {PATH}")
        if request.method == "OPTIONS":
            return False
        if request.method != "POST":
            raise RefusedRequest(405, "events are sent with POST", headers=[ALLOW])
        return True

    def _read_head(self, request: Request, query: Query) -> HeadReading:
        self._check_length(request, self.settings.max_body_bytes)
        format_ = format_of(request)
        if coding := request.headers.get("content-encoding"):
            check_coding(coding)
        return HeadReading(self.settings, query, format_, coding)

    def _query(self, request: Request) -> Query:
        if not request.query:
            return NO_QUERY
        return parse_query(request.query, token_allowed=self.settings.access_token_in_query)

    def _by_head(self, request: Request, query: Query) -> str | None:
        """The producer, empty if anyone may post; None if its signature must show who it is."""
        authenticator = self._authenticator
        if authenticator.anonymous:
            return ""
        producer = authenticator.by_credentials(request, query.access_token)
        if producer is None:
            authenticator.check_signature_head(request)
        return producer

    def _unwrapped(self, producer: str, events: Sequence[bytes]) -> Unpacked:
        keys = self._authenticator.producers.get(producer)
        unwrap = (keys.unwrap if keys else None) or self.settings.unwrap
        if unwrap is None:
            return Unpacked(producer, events, _ALL_READABLE)
        return Unpacked(producer, *unwrapped(events, unwrap, self.settings.max_events))

    def _check_token_request(self, request: Request) -> None:
        if request.method != "POST":
            raise RefusedRequest(405, "a token is asked for with POST", headers=[("Allow", "POST")])
        self._check_length(request, MAX_BODY_BYTES)
        if "content-encoding" in request.headers:
            raise RefusedRequest(415, "a request for a token is not compressed")

    def _check_length(self, request: Request, limit: int) -> None:
        length = request.headers.get("content-length")
        if length is None:
            if "transfer-encoding" not in request.headers:
                raise RefusedRequest(
                    411, "the length of the body is not known: send Content-Length, or chunks"
                )
            return
        if not (length.isascii() and length.isdigit()):
            raise RefusedRequest(400, "Content-Length must be a number")
        if len(length) > _MAX_LENGTH_DIGITS or int(length) > limit:
            raise RefusedRequest(413, f"the body is longer than {limit} bytes")

    def _events(self, request: Request) -> Sequence[bytes]:
        settings, known = self.settings, request.reading
        body = request.body
        if coding := known.coding:
            body = decode(
                body,
                coding,
                max_body_bytes=settings.max_body_bytes,
                max_expansion=settings.max_expansion,
            )
        if known.format is Format.BINARY:
            return [to_structured(request.headers, request.repeated, body)]
        return take_apart(body, known.format, max_events=settings.max_events)


_PLAIN_BODY = b'{"accepted":%d,"duplicates":%d,"rejected":[]}'
_ONE_ACCEPTED = Response(202, _PLAIN_BODY % (1, 0), JSON_TYPE)
NOTHING_SENT = Response(202, _PLAIN_BODY % (0, 0), JSON_TYPE)
"""The answer to a body that is well-formed and has no event."""


def answer_to(result: Result) -> Response:
    """202 when an event is new or known; 422 when all are rejected, or when an atomic request stored
    nothing; otherwise the status of ``DeferredSubmission`` with Retry-After (RFC 9110 10.2.3, at least 1)."""
    if isinstance(result, DeferredSubmission):
        wait = (("Retry-After", str(max(1, result.retry_after_s))),)
        return problem(result.status, redact(result.detail), headers=wait)
    if not result.rejected and result.ends is None and result.stored:
        if result.accepted == 1 and result.duplicates == 0:
            return _ONE_ACCEPTED  # made once: this is nearly every answer
        return Response(202, _PLAIN_BODY % (result.accepted, result.duplicates), JSON_TYPE)
    return in_full(result)
