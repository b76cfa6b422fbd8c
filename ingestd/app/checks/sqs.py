"""What the settings of a queue of SQS make of the promise that nothing is lost. Takes no message."""

import importlib.util
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.config import Settings
from ingestd.core.address import is_loopback
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.units import human_seconds
from ingestd.sources.sqs.queue import SqsError, SqsQueue, is_denied
from ingestd.sources.sqs.settings import SqsConfig
from ingestd.wiring.http_clients import make_client

_OUTAGE_S = 86_400
_LONGEST_S = 43_200
"""Of a message's visibility, by SQS: from when it was given out, however often that is extended."""
_FEW = 3


def check_sqs(settings: Settings) -> Iterator[Finding]:
    """What can be said without AWS."""
    queues = settings.ingest.sqs
    if queues and importlib.util.find_spec("botocore") is None:
        yield fail("sqs", "[ingest.sqs] needs botocore: pip install 'ingestd[aws]'")
        return
    window_s = settings.window.max_age
    for name, source in queues.items():
        where = f"sqs.{name}"
        yield ok(where, f"queue {source.queue_url}")
        if source.queue_url.startswith("http://") and not is_loopback(source.endpoint[7:].partition(":")[0]):
            yield warn(where, "events come unencrypted: give queue_url as https://")
        if window_s < 2 * source.visibility:
            yield warn(
                where,
                f"window.max_age ({human_seconds(window_s)}) is shorter than twice the visibility"
                f" ({human_seconds(source.visibility)}): after a crash a message may come again when its"
                " events are no longer known, and they are sent twice",
            )


async def check_sqs_online(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    async with make_client(settings, max_connections=4, timeout_s=10.0, clock=clock) as client:
        for name, source in settings.ingest.sqs.items():
            where = f"sqs.{name}"
            try:
                queue = SqsQueue(source, client, clock)
                try:
                    async for finding in _check_queue(where, settings, source, queue):
                        yield finding
                finally:
                    await queue.aclose()
            except UserError as error:
                yield fail(where, str(error))


async def _check_queue(
    where: str, settings: Settings, source: SqsConfig, queue: SqsQueue
) -> AsyncIterator[Finding]:
    try:
        found = await queue.attributes()
    except SqsError as error:
        if error.code in ("QueueDoesNotExist", "NonExistentQueue"):
            yield fail(where, f"there is no queue {source.queue_url}: make it, ingestd does not")
            return
        if not is_denied(error):
            raise
        yield warn(where, "sqs:GetQueueAttributes is not allowed: no lag is shown, and nothing checked")
        found = {}
    lacking = [f"sqs:{right}" for right, action in _RIGHTS.items() if await queue.lacks(action)]
    if lacking:
        yield fail(where, f"not allowed: {', '.join(lacking)}")
    if found:
        pending, on_way = (found.get(f"ApproximateNumberOfMessages{of}", "?") for of in ("", "NotVisible"))
        order = "in order within a message group" if source.is_fifo else "in any order"
        yield ok(where, f"{pending} messages to come, {on_way} on their way, {order}")
        for finding in _doubts(where, settings, source, found):
            yield finding


_RIGHTS = {
    "ReceiveMessage": "ReceiveMessage",
    "DeleteMessage": "DeleteMessageBatch",
    "ChangeMessageVisibility": "ChangeMessageVisibilityBatch",
}


def _doubts(where: str, settings: Settings, source: SqsConfig, found: Mapping[str, str]) -> Iterator[Finding]:
    kept_s = int(found.get("MessageRetentionPeriod", _OUTAGE_S))
    if kept_s < _OUTAGE_S:
        spool = "" if source.spool else ", or set spool = true"
        yield warn(
            where,
            f"the queue deletes messages after {human_seconds(kept_s)}, read or not: an outage that is longer"
            f" loses events; give it a MessageRetentionPeriod of a day or more{spool}",
        )
    if not source.spool and kept_s > _LONGEST_S > settings.window.max_age:
        yield ok(
            where,
            "in an outage of more than 12 h SQS gives messages again that are on their way; they are told by"
            " their id",
        )
    most = int(found.get("MaximumMessageSize", 0))
    if source.format == "event" and most > settings.batch.max_bytes:
        yield warn(
            where,
            f"a message may have {most} bytes, and a request has room for {settings.batch.max_bytes}"
            " (batch.max_bytes): an event between the two becomes a dead letter (too_large)",
        )
    yield from _doubts_of_redrive(where, source, found)


def _doubts_of_redrive(where: str, source: SqsConfig, found: Mapping[str, str]) -> Iterator[Finding]:
    """As ``max_deliver`` of NATS: a message that nothing is wrong with goes where nobody reads."""
    times = 0
    with suppress(ValueError, TypeError, AttributeError):
        times = int(json.loads(found.get("RedrivePolicy", "{}")).get("maxReceiveCount", 0))
    if not times:
        return
    why = (
        f"SQS moves a message away that was given {times} times (RedrivePolicy, maxReceiveCount). Every crash"
        " of ingestd gives one again, and what is wrong with an event ingestd says itself, as a dead letter:"
        " what is moved is good, and nobody reads it"
    )
    if source.is_fifo:
        why += ", and the rest of its message group goes on without it"
    if times < _FEW:
        yield fail(where, f"{why}; take the policy away, or give it a count of 100 or more")
    else:
        yield warn(where, f"{why}; watch that queue, or take the policy away")
