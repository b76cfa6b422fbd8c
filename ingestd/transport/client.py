"""The HTTP client: one request, one Answer, whatever the network does. ``Sender`` adds credentials.

``SecretMask`` takes these out of answers: APIs that show what they were sent do exist.
"""

import base64
import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Protocol
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec.structs import replace

from ingestd import __version__
from ingestd.core import redaction
from ingestd.core.answer import Answer, Octets
from ingestd.core.clock import Clock, SystemClock, system_rng
from ingestd.core.errors import Held
from ingestd.transport.decoding import FIRST_OF_MARKS, undo
from ingestd.transport.engine import Engine, Exchanged, Timeout
from ingestd.transport.network_errors import CutWhileSending, NoAnswer, Unsent
from ingestd.transport.target import PORTS, RequestTarget, parse_target
from ingestd.transport.tls import watch_tls
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.watched_file import Watch

MAX_BODY_BYTES = 1024 * 1024

_MIN_MASKED = 4  # masking a secret of one letter would garble the answer, and tell the letter
_REMEMBERED = 24


class Client:
    """An async context manager; bounded in time, bytes and connections.

    ``timeout_s`` is the deadline of one attempt, from waiting for a connection to the answer's last
    byte; ``connect_timeout_s`` and ``read_timeout_s`` (between two reads) end it earlier.
    ``max_connection_age_s``: then a new connection is made, so that a name that has moved is followed.
    ``max_body_bytes``: how much of an answer is kept, unpacked; more where the request was long, too.
    ``ca_file``: PEM, instead of the usual authorities; ``certificate``: PEM files (certificate, key) to
    present; both are read again when they change, ``watch`` is called with those that cannot be used.
    ``trust_env``: proxies and SSL_CERT_FILE
    from the environment. Redirects are not followed, cookies not kept, compression not asked for but undone.
    ``guard``: requests that it refuses are not sent, and answered like an error of the network; through a
    proxy it sees the URL only. ``clock``, ``rng``: None is the system's. ``engine``: other than the network.
    Raises UserError for files that do not serve.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 30.0,
        connect_timeout_s: float = 10.0,
        read_timeout_s: float = 30.0,
        max_connections: int = 64,
        max_connection_age_s: float = 300.0,
        max_body_bytes: int = MAX_BODY_BYTES,
        ca_file: str | None = None,
        certificate: tuple[str, str] | None = None,
        trust_env: bool = False,
        guard: UrlGuard | None = None,
        watch: Watch | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._timeout = Timeout(connect_timeout_s, read_timeout_s, timeout_s)
        self._engine = engine or Engine(
            watch_tls(
                ca_file,
                certificate=certificate,
                trust_env=trust_env,
                watch=watch or Watch(),
                clock=self._clock,
            ),
            max_connections=max_connections,
            max_connection_age_s=max_connection_age_s,
            max_body_bytes=max_body_bytes,
            trust_env=trust_env,
            guard=guard,
            clock=self._clock,
            rng=rng or system_rng(),
        )

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._engine.aclose()

    async def post(
        self, url: str, body: Octets, headers: Mapping[str, str], *, timeout_s: float | None = None
    ) -> Answer:
        """Send a POST, once: see ``request``."""
        return await self.request("POST", url, body=body, headers=headers, timeout_s=timeout_s)

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: Octets = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Send one request, once. Never raises for an error of the network: ``Answer.status`` is 0 then.

        The status line and complete headers make an answer; if its body was cut short, stalled until
        the deadline or was over the limit, it is ``truncated``.
        """
        start = self._clock.monotonic()
        timeout = self._timeout if timeout_s is None else replace(self._timeout, total=timeout_s)
        try:
            target, own = _target(url)
            named = dict(own)
            for name, value in (headers or {}).items():
                named[name.lower()] = value
            done = await self._engine.exchange(method, target, named, body, timeout=timeout)
        except NoAnswer as error:
            return Answer(
                0,
                error=str(error),
                seconds=self._clock.monotonic() - start,
                unsent=isinstance(error, Unsent),
                part_sent=isinstance(error, CutWhileSending),
            )
        except ValueError:
            return Answer(0, error=_NOT_VALID, seconds=self._clock.monotonic() - start, unsent=True)
        return self._answer(done, body, start)

    def _answer(self, done: Exchanged, sent: Octets, start: float) -> Answer:
        headers = _lower(done.headers)
        body, truncated, unreadable = done.body, done.truncated, ""
        if "content-encoding" in headers or body[:1] in FIRST_OF_MARKS:
            coding = headers.get("content-encoding", "")
            body, cut, unreadable = undo(body, coding, limit=self._engine.limit(sent))
            truncated = truncated or cut
        return Answer(
            done.status,
            headers=headers,
            body=body,
            truncated=truncated,
            unreadable=unreadable,
            seconds=self._clock.monotonic() - start,
        )


class Ready(msgspec.Struct, frozen=True):
    """``headers`` of one ``generation`` of a credential, to be used ``until`` then (``monotonic``)."""

    headers: dict[str, str]
    generation: int
    until: float
    monotonic: Callable[[], float]


class Auth(Protocol):
    """Adds to each attempt what shows whom it is from. ``refusal``: what it means, for people, that the API
    does not accept it, although it was renewed where that can be done. ``ready``: what serves for any request
    for now, so that nobody has to be asked."""

    refusal: str
    ready: Ready | None

    async def headers(self, url: str, body: Octets, headers: Mapping[str, str]) -> tuple[dict[str, str], int]:
        """(headers to add to a POST with these, generation of the credential). Raises Unreachable."""
        ...

    def drop(self, generation: int) -> None:
        """The credential of that generation was refused; a newer one stays."""
        ...

    def mask(self, text: bytes) -> bytes:
        """An answer without our secrets."""
        ...

    async def aclose(self) -> None:
        """Close what it has opened."""
        ...


class SecretMask:
    """Puts ``***`` where one of the secrets that were in use lately stands in an answer."""

    def __init__(self, *secrets: str) -> None:
        self._forms: deque[bytes] = deque(maxlen=_REMEMBERED)
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """As it is, and as JSON has it. Also given to ``core.redaction``, for all that is shown and kept."""
        for secret in secrets:
            redaction.hide(secret, passing=True)
            if len(secret) >= _MIN_MASKED:
                quoted = json.dumps(secret)[1:-1]
                forms = dict.fromkeys((secret, quoted, quoted.replace("/", "\\/")))
                self._forms.extend(f for form in forms if (f := form.encode()) not in self._forms)

    def __call__(self, text: bytes) -> bytes:
        for form in self._forms:
            if form in text:
                text = text.replace(form, b"***")
        return text


class Sender:
    """Sends with the current credential; the caller learns its generation."""

    def __init__(self, client: Client, auth: Auth) -> None:
        self.held = False
        self._client = client
        self._auth = auth

    def hold(self, on: bool) -> None:
        """What waits for a token is not sent then."""
        self.held = on

    async def send(self, url: str, body: Octets, headers: Mapping[str, str]) -> tuple[Answer, int]:
        """(answer, generation of the credential). Raises Unreachable; Held when it is ``held`` by the
        time that a token is there."""
        ready = self._auth.ready
        if ready and ready.monotonic() < ready.until:
            added, generation = ready.headers, ready.generation
        else:
            added, generation = await self._auth.headers(url, body, headers)
            if self.held:
                raise Held
        answer = await self._client.request("POST", url, body=body, headers={**headers, **added})
        return self._masked(answer), generation

    @property
    def refusal(self) -> str:
        return self._auth.refusal

    def drop_token(self, generation: int) -> None:
        self._auth.drop(generation)

    def _masked(self, answer: Answer) -> Answer:
        """APIs that show what they were sent: answers are kept in the audit file and in dead letters."""
        mask = self._auth.mask
        if (body := mask(answer.body)) is not answer.body:
            answer = replace(answer, body=body)
        if "location" in answer.headers:  # the one header that is told to people
            location = mask(answer.headers["location"].encode("latin-1")).decode("latin-1")
            answer = replace(answer, headers={**answer.headers, "location": location})
        return answer


_HEADERS = {"user-agent": f"ingestd/{__version__}", "accept-encoding": "identity"}

_NOT_VALID = "a header or the URL is not valid"


@lru_cache(maxsize=64)
def _target(url: str) -> tuple[RequestTarget, dict[str, str]]:
    """Where to send, and our own headers: with Authorization if the URL has user-info. Raises ValueError, and
    Unsent for another scheme."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise Unsent("the URL is not http or https")
    target = parse_target(url)
    if not (parts.username or parts.password):
        return target, _HEADERS
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    return target, _HEADERS | {"authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _lower(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header lines as a dict; what came several times is joined by commas (RFC 9110 5.3)."""
    headers: dict[str, str] = {}
    for line_name, line_value in raw:
        name, value = line_name.decode("latin-1").lower(), line_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
