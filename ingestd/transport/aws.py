"""AWS requests signed with Signature Version 4, through botocore: an ``Auth``, see ``auth.py``.

Credentials come from the SDK's ordinary chain: environment, files, profiles, roles, metadata services.
"""

import asyncio
import importlib
import logging
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from ingestd.core.answer import Octets
from ingestd.core.clock import Clock, SystemClock
from ingestd.core.errors import Unreachable, UserError
from ingestd.transport.auth import LoginRefused
from ingestd.transport.client import Ready, SecretMask
from ingestd.transport.oauth import TokenUnavailable

TIMEOUT_S = 10.0
"""How long an attempt waits for credentials: a metadata service may be far, or silent."""
RENEW_EVERY_S = 30.0
"""How often the renewal of credentials that are still good is tried."""

# At DEBUG botocore logs what it signs, session tokens with it.
logging.getLogger("botocore").setLevel(logging.WARNING)


class AwsSignature:
    """Signs for one service and region. Credentials are looked for with the first request and renewed by
    botocore, in a thread: that may read files, run programs and ask servers.

    ``profile``: one of the AWS configuration files; empty: as the environment says. A credential that was
    refused (``drop``) is looked for again, so that changed files count. Raises UserError without botocore.
    """

    refusal = "AWS does not accept the credentials"
    ready: Ready | None = None  # it is of one request

    def __init__(
        self,
        service: str,
        region: str,
        *,
        profile: str = "",
        timeout_s: float = TIMEOUT_S,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._service = service
        self._region = region
        self._profile = profile
        self._timeout_s = timeout_s
        self._botocore = _Botocore()
        self._credentials: Any = None
        self._frozen: Any = None
        self._generation = 0
        self._renew_at = 0.0
        self._loading: asyncio.Task[Unreachable | None] | None = None
        self.mask = SecretMask()

    async def headers(self, url: str, body: Octets, headers: Mapping[str, str]) -> tuple[dict[str, str], int]:
        """Authorization, X-Amz-Date and, of temporary credentials, X-Amz-Security-Token.

        Raises LoginRefused where no credentials are found, TokenUnavailable where they do not come in time.
        """
        credentials = self._credentials
        if credentials is None or _ends_within(credentials, 0):
            await self._wait_for_credentials()
        elif _ends_within(credentials, None) and self._clock.monotonic() >= self._renew_at:
            self._load()  # in the background: they are good until their end
        signed = self._botocore.sign(self._frozen, self._service, self._region, url, bytes(body), headers)
        return signed, self._generation

    def drop(self, generation: int) -> None:
        if generation == self._generation:
            self._credentials = None

    async def aclose(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])

    async def _wait_for_credentials(self) -> None:
        loading = self._load()
        await asyncio.wait([loading], timeout=self._timeout_s)
        if not loading.done() or loading.cancelled():
            raise TokenUnavailable("no AWS credentials in time: is the metadata service within reach?")
        if (error := loading.result()) is not None:
            raise type(error)(*error.args)  # its own for each that waited: tracebacks grow otherwise

    def _load(self) -> asyncio.Task[Unreachable | None]:
        """However many wait, one looks; it goes on when those who wait are cancelled."""
        if self._loading is None:
            self._renew_at = self._clock.monotonic() + RENEW_EVERY_S
            self._loading = asyncio.create_task(self._look(), name="AWS credentials")
            self._loading.add_done_callback(self._forget_task)
        return self._loading

    async def _look(self) -> Unreachable | None:
        """Returns errors instead of raising, as no task may wait for them."""
        try:
            credentials, frozen = await asyncio.to_thread(
                self._botocore.find, self._credentials, self._profile
            )
        except Unreachable as error:
            return error
        self._generation += 1
        self._credentials, self._frozen = credentials, frozen
        self.mask.add(*filter(None, (frozen.secret_key, frozen.token)))
        return None

    def _forget_task(self, _: object) -> None:
        self._loading = None


def find_region(region: str, *, profile: str = "") -> str:
    """``region``, or else that of the AWS environment and its files. Blocks on them. Raises UserError."""
    found = region or os.environ.get("AWS_REGION")  # botocore itself knows AWS_DEFAULT_REGION only
    found = found or _Botocore().session(profile).get_config_variable("region")
    if not found:
        raise UserError("which AWS region? set aws_region, or AWS_REGION in the environment")
    return str(found)


def endpoint(service: str, region: str, *, profile: str = "") -> str:
    """``https://events.eu-central-1.amazonaws.com/``, or what the AWS environment says. Raises UserError."""
    botocore = _Botocore()
    try:
        client = botocore.session(profile).create_client(
            service,
            region_name=region,
            aws_access_key_id="unused",  # otherwise it would look for credentials, and wait for them
            aws_secret_access_key="unused",  # noqa: S106
        )
    except botocore.errors.BotoCoreError as error:
        raise UserError(f"aws_region {region[:100]!r}: {error}") from None
    try:
        return str(client.meta.endpoint_url).rstrip("/") + "/"
    finally:
        client.close()


@cache
def _loader(data_path: str | None) -> Any:
    """Of what botocore knows of AWS, in files: they are read once in a process, which takes as long as all
    the rest."""
    return importlib.import_module("botocore.loaders").create_loader(data_path)


class _Botocore:
    """The parts of botocore that are used, loaded late: it takes a tenth of a second."""

    def __init__(self) -> None:
        try:
            self._session = importlib.import_module("botocore.session")
            self._auth = importlib.import_module("botocore.auth")
            self._request = importlib.import_module("botocore.awsrequest")
            self.errors = importlib.import_module("botocore.exceptions")
        except ImportError:
            raise UserError("AWS needs botocore: pip install 'ingestd[aws]'") from None

    def session(self, profile: str) -> Any:
        """Raises UserError for a profile that is not there."""
        session = self._session.Session(profile=profile or None)
        try:
            session.get_scoped_config()
            session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
        except self.errors.BotoCoreError as error:
            raise UserError(f"AWS configuration: {error}") from None
        return session

    def find(self, credentials: Any, profile: str) -> tuple[Any, Any]:
        """(credentials, a snapshot of them): those, renewed if need be, or newly found. Blocks."""
        try:
            credentials = credentials or self._session.Session(profile=profile or None).get_credentials()
            if credentials is None:
                raise LoginRefused("no AWS credentials: neither in the environment, nor files, nor a role")
            return credentials, credentials.get_frozen_credentials()
        except (self.errors.ProfileNotFound, self.errors.PartialCredentialsError) as error:
            raise LoginRefused(f"no AWS credentials: {error}") from None
        except LoginRefused:
            raise
        except Exception as error:  # programs and servers of all kinds are asked
            # in fixed words: what a credential process says may quote anything
            raise TokenUnavailable(f"no AWS credentials: {type(error).__name__}") from None

    def sign(
        self, frozen: Any, service: str, region: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> dict[str, str]:
        request = self._request.AWSRequest(method="POST", url=url, data=body, headers=dict(headers))
        self._auth.SigV4Auth(frozen, service, region).add_auth(request)
        own = {name.lower() for name in headers}
        return {name: value for name, value in request.headers.items() if name.lower() not in own}


def _ends_within(credentials: Any, seconds: float | None) -> bool:
    """Whether they have an end, and it is that near; None: so near that botocore would renew them."""
    refresh_needed = getattr(credentials, "refresh_needed", None)
    return refresh_needed is not None and bool(refresh_needed(seconds))
