"""The API of Amazon SQS, as far as a consumer needs it: the JSON protocol, signed by botocore."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ingestd.core.bounds import DEFAULT_BOUNDS
from ingestd.core.clock import Clock
from ingestd.core.errors import Unreachable
from ingestd.core.text import printable
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.sqs.settings import SqsConfig
from ingestd.transport import aws
from ingestd.transport.client import Client

MAX_ENTRIES = 10
"""Of a batch, and messages of one answer."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Ten messages of 1 MiB each, as JSON strings."""
TIMEOUT_S = 30.0
"""Of a request, and so more than that. The client must not end one earlier, for want of bytes."""
_MAX_SHOWN = 300


class SqsError(BrokerAway):
    """What SQS answered. ``code`` as ``QueueDoesNotExist``; empty: it was no answer of SQS's."""

    def __init__(self, words: str, code: str = "") -> None:
        super().__init__(words)
        self.code = code


class SqsMessage(NamedTuple):
    """``sent_ms``: since the epoch. ``received``: how often it was given out, this time included."""

    id: str
    handle: str
    body: str
    headers: Mapping[str, str]
    sent_ms: int
    received: int


class Failed(NamedTuple):
    """``ours``: the same entry would fail again: its handle is too old."""

    id: str
    code: str
    ours: bool


class SqsQueue:
    """All raise SqsError."""

    def __init__(
        self, settings: SqsConfig, client: Client, clock: Clock, *, wait_s: int = DEFAULT_BOUNDS.sqs_wait_s
    ) -> None:
        region = aws.find_region(settings.region, profile=settings.aws_profile)
        self._auth = aws.AwsSignature("sqs", region, profile=settings.aws_profile, clock=clock)
        self._client = client
        self._wait_s = wait_s
        self.url = settings.queue_url
        self._endpoint = settings.endpoint
        self._visibility_s = int(settings.visibility)

    async def aclose(self) -> None:
        await self._auth.aclose()

    async def attributes(self) -> dict[str, str]:
        answer = await self._call("GetQueueAttributes", AttributeNames=["All"])
        return dict(answer.get("Attributes") or {})

    async def receive(self, most: int) -> list[SqsMessage]:
        """Waits up to ``wait_s`` for the first one. Raises SqsError."""
        answer = await self._call(
            "ReceiveMessage",
            MaxNumberOfMessages=min(most, MAX_ENTRIES),
            WaitTimeSeconds=self._wait_s,
            VisibilityTimeout=self._visibility_s,
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
            MessageAttributeNames=["All"],
        )
        try:
            return [_message(one) for one in answer.get("Messages") or ()]
        except (AttributeError, TypeError):
            raise SqsError(f"{self.url}: the answer is not one of SQS") from None

    async def delete(self, handles: Mapping[str, str]) -> list[Failed]:
        """``handles``: id -> handle, at most ten."""
        return await self._batch("DeleteMessageBatch", handles)

    async def extend(self, handles: Mapping[str, str], seconds: float | None = None) -> list[Failed]:
        """They stay with us for so long from now; None: as long as if they had just come."""
        seconds = self._visibility_s if seconds is None else int(seconds)
        return await self._batch("ChangeMessageVisibilityBatch", handles, VisibilityTimeout=seconds)

    async def lacks(self, action: str) -> bool:
        """Whether the right to an action is missing, found without doing it."""
        entry = {"Id": "0", "ReceiptHandle": "none"}
        asked: dict[str, dict[str, Any]] = {
            "ReceiveMessage": {"MaxNumberOfMessages": 0},
            "DeleteMessageBatch": {"Entries": [entry]},
            "ChangeMessageVisibilityBatch": {"Entries": [entry | {"VisibilityTimeout": 0}]},
        }
        try:
            await self._call(action, **asked[action])
        except SqsError as error:
            if not error.code:
                raise
            return is_denied(error)
        return False

    async def _batch(self, action: str, handles: Mapping[str, str], **more: int) -> list[Failed]:
        """Each entry has its own result: an answer that leaves one out has not done it."""
        ids = [*handles]
        entries = [{"Id": str(n), "ReceiptHandle": handles[id_], **more} for n, id_ in enumerate(ids)]
        answer = await self._call(action, Entries=entries)
        try:
            done = {one.get("Id") for one in answer.get("Successful") or ()}
            failed = {one.get("Id"): one for one in answer.get("Failed") or ()}
        except (AttributeError, TypeError):
            raise SqsError(f"{self.url}: the answer is not one of SQS") from None
        return [
            Failed(id_, str(found.get("Code", "")), bool(found.get("SenderFault")))
            for n, id_ in enumerate(ids)
            if str(n) not in done and (found := failed.get(str(n), {})) is not None
        ]

    async def _call(self, action: str, **content: Any) -> dict[str, Any]:
        body = json.dumps({"QueueUrl": self.url, **content}).encode()
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{action}"}
        try:
            added, generation = await self._auth.headers(self._endpoint, body, headers)
        except Unreachable as error:
            raise SqsError(f"{self.url}: {error}") from None
        answer = await self._client.post(self._endpoint, body, headers | added)
        found = answer.json_object(max_bytes=MAX_ANSWER_BYTES)
        if 200 <= answer.status < 300 and not answer.truncated and (found or answer.body.strip() == b"{}"):
            return found
        code = str(found.get("__type") or "").rpartition("#")[2]
        if answer.status in (401, 403) or code in _OF_CREDENTIALS:
            self._auth.drop(generation)
        message = found.get("message") or found.get("Message") or ""
        text = f"{code}: {message}" if code else answer.error or f"{answer.status}, and no answer of SQS"
        raise SqsError(f"{self.url}: {printable(text)[:_MAX_SHOWN]}", code)


_OF_CREDENTIALS = {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "InvalidSecurity"}


def is_denied(error: SqsError) -> bool:
    return error.code in ("AccessDenied", "AccessDeniedException", "KmsAccessDenied")


def tens(handles: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """As many as one batch takes."""
    pairs: Sequence[tuple[str, str]] = [*handles.items()]
    for start in range(0, len(pairs), MAX_ENTRIES):
        yield dict(pairs[start : start + MAX_ENTRIES])


def _message(found: Mapping[str, Any]) -> SqsMessage:
    system = found.get("Attributes") or {}
    headers = {
        name: str(value["StringValue"])
        for name, value in (found.get("MessageAttributes") or {}).items()
        if "StringValue" in value
    }
    return SqsMessage(
        str(found.get("MessageId", "")),
        str(found.get("ReceiptHandle", "")),
        str(found.get("Body", "")),
        headers,
        _number(system.get("SentTimestamp")),
        _number(system.get("ApproximateReceiveCount")),
    )


def _number(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isdigit() and len(text) <= 15 else 0
