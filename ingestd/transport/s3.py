"""Objects in an S3 bucket, each whole or not there. What ``lake/`` writes through, like ``folder.py``."""

import asyncio
import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from msgspec.structs import replace

from ingestd.core.answer import Answer
from ingestd.core.errors import UserError
from ingestd.transport import aws
from ingestd.transport.client import Client

TIMEOUT_S = 300.0
"""For one object: some ten megabytes over a slow line."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z]{2}(-[a-z]{2,20}){1,3}-[1-9][0-9]?")
_HASH = "X-Amz-Content-SHA256"


class S3Transport:
    """``send`` puts below ``s3://bucket/prefix`` with ``If-None-Match: *``: 412: it is there already.

    ``region``: empty: as the AWS environment says. ``endpoint_url``: of another S3 than AWS's; then the
    bucket is in the path. Raises UserError for a bucket or region that cannot be, and without botocore.
    Blocks on AWS's configuration files when it is made.
    """

    def __init__(
        self,
        client: Client,
        *,
        bucket: str,
        prefix: str = "",
        region: str = "",
        profile: str = "",
        endpoint_url: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if not _BUCKET.fullmatch(bucket):
            raise UserError(f"s3://{bucket[:63]}: this is not a valid bucket name")
        prefix = prefix.strip("/")
        region = aws.find_region(region, profile=profile)
        self.shown_url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._client = client
        self._timeout_s = timeout_s
        self._base = _base_url(bucket, endpoint_url or _endpoint(region), hosted=not endpoint_url)
        self._prefix = f"{prefix}/" if prefix else ""
        self._signature = _S3Signature(region, profile=profile)

    async def open(self) -> None:
        """Nothing is left over by a crash: S3 has an object whole or not at all."""

    async def aclose(self) -> None:
        await self._signature.aclose()

    async def send(self, key: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
        """Put ``body`` as ``key``. (answer, generation of the credentials).

        Raises Unreachable where there are no credentials.
        """
        url = self._base + quote(self._prefix + key, safe="/-_.~")  # as S3 will, to compare signatures
        digest = await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
        headers = {**headers, "If-None-Match": "*", _HASH: digest}
        signed, generation = await self._signature.headers(url, b"", headers)
        answer = await self._client.request(
            "PUT", url, body=body, headers=headers | signed, timeout_s=self._timeout_s
        )
        return replace(answer, body=self._signature.mask(answer.body)), generation

    def drop_token(self, generation: int) -> None:
        """Credentials of that generation were refused: look for others."""
        self._signature.drop(generation)


def _endpoint(region: str) -> str:
    if not _REGION.fullmatch(region):
        raise UserError(f"aws_region: {region[:60]!r} is not an AWS region")
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def _base_url(bucket: str, endpoint: str, *, hosted: bool) -> str:
    """The bucket in the host's name, as AWS wants it, unless that breaks its certificate's wildcard."""
    endpoint = endpoint.rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
        raise UserError("endpoint_url: expected something like https://s3.example.com, without credentials")
    if hosted and "." not in bucket:
        return f"{parts.scheme}://{bucket}.{parts.netloc}/"
    return f"{endpoint}/{bucket}/"


class _S3Signature(aws.AwsSignature):
    """Of a PUT, by the rules of S3: the path is not encoded again, the body's hash is a header."""

    def __init__(self, region: str, *, profile: str) -> None:
        super().__init__("s3", region, profile=profile)
        self._botocore = _S3Botocore()


class _S3Botocore(aws._Botocore):  # noqa: SLF001 - its one relative
    def sign(
        self, frozen: Any, service: str, region: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> dict[str, str]:
        request = self._request.AWSRequest(method="PUT", url=url, headers=dict(headers))
        digest = headers[_HASH]  # hashed in a thread: it may be 64 MiB
        hashed = type("Hashed", (self._auth.S3SigV4Auth,), {"payload": lambda _, request: digest})
        hashed(frozen, service, region).add_auth(request)
        own = {name.lower() for name in headers}
        return {name: value for name, value in request.headers.items() if name.lower() not in own}
