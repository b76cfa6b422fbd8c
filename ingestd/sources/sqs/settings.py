"""The table ``[ingest.sqs]``, or ``[ingest.sqs.NAME]``: a queue of Amazon SQS, and how it is read."""

from typing import Annotated

from ingestd.core.regex import regex
from ingestd.core.setting_types import After, Seconds, field
from ingestd.core.unwrap import UnwrapSection
from ingestd.sources.broker import MessageFormat

_REGION = regex(r"sqs(?:-fips)?\.([a-z]{2}(?:-[a-z]{2,20}){1,3}-[1-9][0-9]?)\.|([a-z0-9-]+)\.queue\.")


def _url(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.strip("/") or not plain:
        raise ValueError("expected https://sqs.REGION.amazonaws.com/ACCOUNT/NAME, the URL of the queue")
    return url


class SqsConfig(UnwrapSection):
    """A queue of Amazon SQS that is read (``pip install ingestd[aws]``)."""

    queue_url: Annotated[str, After(_url)] = field(
        "", description="https://sqs.REGION.amazonaws.com/ACCOUNT/NAME; needed"
    )
    aws_region: str = field("", description="empty: that in queue_url, or as the AWS environment says")
    aws_profile: str = field("", description="profile of the AWS configuration; empty: the default one")
    format: MessageFormat = field(
        "event", description="what a message holds, unwrapped: event, ndjson, array, cloudevents"
    )
    spool: bool = field(
        False, description="delete what is in the spool; false: what is delivered, or a dead letter"
    )
    visibility: Seconds = field(
        300.0, ge=2, le=43_200, description="time after which SQS gives a message again; it is extended"
    )
    max_in_flight: int = field(
        10_000, ge=10, le=100_000, description="most messages that are taken and not deleted"
    )
    pollers: int = field(4, ge=1, le=32, description="most requests for messages at the same time")

    def _check(self) -> None:
        if not self.queue_url:
            raise ValueError("queue_url is missing: the URL of the queue to read")

    @property
    def endpoint(self) -> str:
        from urllib.parse import urlsplit

        parts = urlsplit(self.queue_url)
        return f"{parts.scheme}://{parts.netloc}/"

    @property
    def region(self) -> str:
        """Empty: the AWS environment has to say."""
        from urllib.parse import urlsplit

        found = _REGION.match(urlsplit(self.queue_url).hostname or "")
        return self.aws_region or ((found[1] or found[2]) if found else "")

    @property
    def is_fifo(self) -> bool:
        return self.queue_url.endswith(".fifo")
