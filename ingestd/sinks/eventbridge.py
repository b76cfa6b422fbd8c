"""AWS EventBridge: ``PutEvents`` of API 2015-10-07, in the protocol AWS JSON 1.1.

    the whole call                                       then
    Throttling*, TooManyRequests*, SlowDown              later, slower
    ServiceUnavailable*, Internal*, timeouts             later
    ExpiredToken*, UnrecognizedClient*, InvalidSignature*, MissingAuthentication*, …   new credentials
    AccessDenied*, ResourceNotFound*, …                  the lane pauses
    RequestEntityTooLarge, a size in words               halved
    ValidationException, Serialization*                  refused: bisected

Of an answer with ``FailedEntryCount`` the entries that are throttled or met an internal failure go again;
others are dead letters. Where all entries failed it counts as the whole call.

AWS knows no idempotency key here: an attempt whose answer was lost, and is made again, may put its events
twice. Rules that cannot bear that look at an id in the detail.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from ingestd.core.address import show_url
from ingestd.core.answer import Answer
from ingestd.core.chunk import frame
from ingestd.core.setting_types import EventPath, Size, field
from ingestd.core.shared_body import Frame
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.sinks import answer_body, answers
from ingestd.sinks.answers import DEFAULT, AnswerReader
from ingestd.sinks.eventbridge_entry import BusEntry, BusEntryEncoder
from ingestd.sinks.settings import TYPE, AwsConfig, HttpSinkConfig, SinkBasis
from ingestd.sinks.sink import Sink, Unencodable, system_wall
from ingestd.transport.headers import retry_after

MAX_ENTRIES = 10
_FRAME = Frame(b'{"Entries":[', b",", b"]}")

# A detail is JSON within a string: each quote and backslash becomes two bytes, and nothing more than two.
_GROWTH = 2
_FRAME_BYTES = 8_192
"""For what a body has besides what AWS counts: the members' names, the bus, the time. Where it is short
the batcher makes smaller batches, which is no harm."""

_SLOWER = (
    *("Throttl", "RequestThrottled", "TooManyRequests", "RequestLimitExceeded", "LimitExceeded", "SlowDown"),
    *("BandwidthLimitExceeded", "PriorRequestNotComplete"),
)
_FAILURES = ("ServiceUnavail", "Internal", "RequestTimeout")
_KINDS: dict[Meaning, tuple[str, ...]] = {
    Meaning.UNAUTHORIZED: (
        *("ExpiredToken", "RequestExpired", "UnrecognizedClient", "InvalidClientToken", "InvalidSignature"),
        *("SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthentication", "InvalidAccessKey"),
        "InvalidToken",
    ),
    Meaning.PAUSED: (
        *("AccessDenied", "NotAuthorizedException", "OptInRequired", "InvalidAccountId", "ResourceNotFound"),
        *("UnknownOperation", "OperationDisabled"),
    ),
    Meaning.SPLIT: ("RequestEntityTooLarge", "PayloadTooLarge"),
    Meaning.REJECTED: (
        "Validation",
        "Serialization",
        "InvalidArgument",
        "MalformedDetail",
        "InvalidParameter",
    ),
    Meaning.RETRY: (*_SLOWER, *_FAILURES),
}
"""Beginnings of the codes of AWS. They come with and without ``Exception`` at their end."""
_TOO_BIG_WORDS = re.compile(r"(?i)size of the entries|over the limit|too large")
_CODE = re.compile(r"[A-Za-z0-9.]{1,100}")


_STRANGE = "it answered without FailedEntryCount and Entries: is this EventBridge?"


class EventBridgeSink:
    """Entries of one bus. ``url``: of the region's endpoint. For the others see ``BusEntryEncoder``.

    ``max_entry_bytes`` bounds what AWS counts, of an entry and of a request: 14 for a time, and the UTF-8
    bytes of source, detail type, detail and resources. Raises ValueError for settings that cannot be.
    """

    kind = "eventbridge"
    max_events = MAX_ENTRIES
    overhead_bytes = _FRAME.overhead_bytes
    separator_bytes = len(_FRAME.separator)

    def __init__(
        self,
        *,
        name: str = "eventbridge",
        url: str,
        bus: str = "default",
        source: str = "ingestd",
        detail_type: str = "$.eventType",
        detail: str = "$",
        time: str = "",
        resources: Sequence[str] = (),
        max_entry_bytes: int = 256 * 1024,
        reading: AnswerReader = DEFAULT,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self.url = url
        self.shown_url = show_url(url)
        self.max_bytes = _GROWTH * max_entry_bytes + _FRAME_BYTES
        self._max_entry_bytes = max_entry_bytes
        self._reading = reading
        self._wall = wall or system_wall()
        self._make_entry = BusEntryEncoder(
            bus=bus, source=source, detail_type=detail_type, detail=detail, time=time, resources=resources
        )

    def sizes(self, events: Sequence[bytes]) -> list[int]:
        """Bytes in the body; or more, so that what fits ``max_bytes`` is within the limit of AWS, too."""
        return [self._size(event) for event in events]

    def encode(self, events: Sequence[bytes]) -> bytes:
        entries: list[bytes] = []
        unfit: dict[int, str] = {}
        for index, event in enumerate(events):
            try:
                entries.append(self._entry(event).body)
            except ValueError as error:
                unfit[index] = str(error)
        if unfit:
            raise Unencodable(unfit)
        return frame(*_FRAME, entries)

    def headers(self, batch_id: str, events: Sequence[bytes]) -> dict[str, str]:
        return {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "AWSEvents.PutEvents",
            "amz-sdk-invocation-id": batch_id,  # for AWS's support; it is no idempotency key
        }

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        if 200 <= answer.status < 300:
            return self._read_entries(answer, len(events))
        code = _code(answer)
        meaning = _kind(code)
        if meaning is None or answer.status == 0:
            return self._reading.verdict(answer, now_wall=self._wall())
        if meaning is Meaning.REJECTED and _TOO_BIG_WORDS.search(
            answer.body[:2_000].decode("utf-8", "replace")
        ):
            meaning = Meaning.SPLIT
        return self._verdict(meaning, code, answer)

    def _entry(self, event: bytes) -> BusEntry:
        entry = self._make_entry(event)
        if entry.counted_bytes > self._max_entry_bytes:
            raise ValueError(f"{entry.counted_bytes} bytes: an entry has at most {self._max_entry_bytes}")
        return entry

    def _size(self, event: bytes) -> int:
        try:
            body, counted_bytes = self._make_entry(event)
        except ValueError:
            return 0
        room = self.max_bytes - self.overhead_bytes
        return max(len(body), -(-counted_bytes * room // self._max_entry_bytes))

    def _verdict(self, meaning: Meaning, code: str, answer: Answer) -> Verdict:
        if meaning is not Meaning.RETRY:
            return Verdict(meaning, answers.words(answer))
        failed = code.startswith(_FAILURES)
        return Verdict(
            meaning,
            answers.words(answer),
            after_s=retry_after.of(answer.headers, now_wall=self._wall()),
            slow_down=not failed or code.startswith("ServiceUnavail"),
            throttled=not failed,
            ambiguous=failed and answer.status >= 300,
        )

    def _read_entries(self, answer: Answer, count: int) -> Verdict:
        """The verdict on a call that was taken, at least in part."""
        failed, results = _results(answer)
        if failed is None and not answer.truncated and not answer.unreadable:
            return self._reading.verdict(answer, now_wall=self._wall(), strange=_STRANGE)
        if failed == 0:
            return self._reading.verdict(answer, now_wall=self._wall())
        if len(results) != count:
            return self._reading.verdict(answer, now_wall=self._wall(), unmatched=failed or 1)
        errors = [(index, code, words) for index, (code, words) in enumerate(results) if code]
        if len(errors) == count and (meaning := _common_meaning([code for _, code, _ in errors])):
            return self._verdict(meaning, errors[0][1], answer)
        items = tuple(
            ItemError(index, answer_body.safe_text(f"{code}: {words}", 300), _kind(code) is Meaning.RETRY)
            for index, code, words in errors
        )
        return self._reading.verdict(answer, now_wall=self._wall(), items=items)


def _kind(code: str) -> Meaning | None:
    return next((meaning for meaning, beginnings in _KINDS.items() if code.startswith(beginnings)), None)


def _common_meaning(codes: Sequence[str]) -> Meaning | None:
    """Where no entry was taken: what that says of the whole call, if it is not the entries' fault."""
    kinds = {_kind(code) for code in codes}
    if len(kinds) == 1 and (kind := kinds.pop()) in (Meaning.RETRY, Meaning.PAUSED, Meaning.UNAUTHORIZED):
        return kind
    return None


def _code(answer: Answer) -> str:
    """``ThrottlingException`` of ``com.amazonaws.events#ThrottlingException`` or ``…:http://…``."""
    content = _decode(answer.body)
    name = content.get("__type") or content.get("code") or answer.headers.get("x-amzn-errortype") or ""
    found = _CODE.match(str(name)[:400].split(":", 1)[0].rpartition("#")[2])
    return found[0] if found else ""


def _results(answer: Answer) -> tuple[int | None, list[tuple[str, str]]]:
    """(FailedEntryCount, (code, message) of each entry; no code: taken). None if the answer does not say."""
    content = _decode(answer.body)
    failed, entries = content.get("FailedEntryCount"), content.get("Entries")
    if answer.truncated or not isinstance(failed, int) or not isinstance(entries, list):
        return None, []
    if not all(isinstance(entry, dict) for entry in entries):
        return failed, []
    results = [(str(e.get("ErrorCode") or ""), str(e.get("ErrorMessage") or "")) for e in entries]
    coded = sum(bool(code) for code, _ in results)
    return max(failed, coded), results


def _decode(body: bytes) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


class EventBridgeConfig(AwsConfig, HttpSinkConfig):
    """AWS EventBridge ``PutEvents`` (``pip install ingestd[aws]``)."""

    type: Literal["eventbridge"] = field(description=TYPE)
    bus: str = field("default", description="name or ARN of the event bus")
    source: str = field("ingestd", description="source of every entry; $.path: from the event")
    detail_type: str = field("$.eventType", description="detail type of every entry; $.path: from the event")
    detail: EventPath = field("$", description="a path to what becomes the detail")
    time: EventPath = field("", description="a path; empty: the time when AWS accepts it")
    resources: tuple[str, ...] = field((), description="ARNs, the same for every entry")
    max_entry_bytes: Size = field(
        256 * 1024, ge=1024, description="most bytes of an entry and of a request; AWS accepts more today"
    )

    at_api: ClassVar[bool] = False
    aws_service: ClassVar[str] = "events"

    def make(self, basis: SinkBasis) -> Sink:
        from ingestd.transport import aws  # an extra: only for those who want it

        region = aws.find_region(self.aws_region, profile=self.aws_profile)
        return EventBridgeSink(
            name=basis.name,
            url=basis.own_url or aws.endpoint("events", region),
            bus=self.bus,
            source=self.source,
            detail_type=self.detail_type,
            detail=self.detail,
            time=self.time,
            resources=self.resources,
            max_entry_bytes=self.max_entry_bytes,
            reading=basis.reader,
            wall=basis.wall,
        )

    @property
    def aws(self) -> AwsConfig:
        return self

    @property
    def auth_kind(self) -> str:
        return "aws" if self.auth.type == "auto" else self.auth.type
