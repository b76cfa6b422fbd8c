"""TLS of a client: its authorities and its certificate.

The usual authorities are read when they are used first: 50 ms that most processes never need.
"""

import functools
import os
import ssl
import sys
from collections.abc import Callable
from typing import Any

from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.transport.watched_file import Watch, WatchedFiles


class LateContext(ssl.SSLContext):
    """What ``ssl.create_default_context`` gives to a client; ``read`` has it read its authorities."""

    read: Callable[[ssl.SSLContext], None] | None

    def __new__(cls, read: Callable[[ssl.SSLContext], None]) -> "LateContext":
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        if sys.version_info >= (3, 13):
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        if key_log := os.environ.get("SSLKEYLOGFILE"):
            context.keylog_filename = key_log
        context.read = read
        return context

    def _be_ready(self) -> None:
        read, self.read = self.read, None
        if read:
            read(self)

    def wrap_bio(self, *given: Any, **named: Any) -> ssl.SSLObject:
        self._be_ready()
        return super().wrap_bio(*given, **named)

    def wrap_socket(self, *given: Any, **named: Any) -> ssl.SSLSocket:
        self._be_ready()
        return super().wrap_socket(*given, **named)


def watch_tls(
    ca_file: str | None, certificate: tuple[str, str] | None, *, trust_env: bool, watch: Watch, clock: Clock
) -> WatchedFiles[ssl.SSLContext]:
    """The authorities and the certificate of a client. Files are read again when they change.

    ``ca_file``: PEM, instead of the usual authorities; ``certificate``: PEM files (certificate, key).
    ``trust_env``: the usual ones are those of SSL_CERT_FILE, if that is set. Raises UserError."""
    of_environment = os.environ.get("SSL_CERT_FILE") if trust_env and not ca_file else None
    paths = [path for path in (ca_file, of_environment, *(certificate or ())) if path]
    try:
        return WatchedFiles(
            paths,
            lambda: _tls_context(ca_file, certificate, trust_env=trust_env),
            what=f"TLS ({', '.join(paths)})",
            watch=watch,
            monotonic=clock.monotonic,
        )
    except OSError as error:  # a file that is not there
        raise UserError(f"cannot use the {_which(error, ca_file)} {error.filename}: {error}") from None


def _which(error: OSError, ca_file: str | None) -> str:
    return "CA file" if error.filename == ca_file else "certificate"


def _tls_context(
    ca_file: str | None, certificate: tuple[str, str] | None, *, trust_env: bool
) -> ssl.SSLContext:
    file = os.environ.get("SSL_CERT_FILE") if trust_env else None
    folder = os.environ.get("SSL_CERT_DIR") if trust_env and not file else None
    try:
        if ca_file:
            context = ssl.create_default_context(cafile=ca_file)
        elif certificate or file or folder:
            usual = None if folder else _public()
            context = ssl.create_default_context(cafile=file or usual, capath=folder)
        else:
            return public_authorities()
    except OSError as error:  # SSLError is one
        raise UserError(f"cannot use the CA file {ca_file}: {error}") from None
    if certificate:
        try:
            # without a password OpenSSL asks for that of an encrypted key on the terminal
            context.load_cert_chain(*certificate, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise UserError(f"cannot use the certificate {certificate[0]}: {error}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


@functools.cache
def public_authorities() -> ssl.SSLContext:
    """Those of ``certifi``, for all clients without a certificate: to read them takes 30 ms and 2 MB."""
    context = LateContext(lambda context: context.load_verify_locations(_public()))
    context.set_alpn_protocols(["http/1.1"])
    return context


def _public() -> str:
    import certifi  # 2 ms

    return certifi.where()
