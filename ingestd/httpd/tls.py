"""TLS for the ingest address: certificates that can be read again while it serves.

Made by the service, which also has them read again; used by ``server.py``.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ingestd.core.errors import UserError

_NAMES = ("DNS", "URI", "IP Address", "email")


class Certificates:
    """The server's certificate and, with ``client_ca_file``, the authority that clients' must come from.

    ``context`` is replaced as a whole by ``reload``: connections that exist keep what they had, new ones
    get the new one, and an authority that is no longer in the file is no longer trusted.
    """

    __slots__ = ("_cert_file", "_client_ca_file", "_key_file", "_seen", "context")

    def __init__(self, cert_file: str, key_file: str, *, client_ca_file: str = "") -> None:
        """Raises UserError that names the file."""
        self._cert_file = cert_file
        self._key_file = key_file
        self._client_ca_file = client_ca_file
        self._seen = self._look()
        self.context = self._load()

    def reload(self) -> None:
        """Read the files again. Raises UserError that names the file, and then changes nothing."""
        seen = self._look()
        self.context = self._load()
        self._seen = seen

    def reload_if_changed(self) -> bool:
        """Whether there was something new. Raises UserError once for each bad change."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        self.context = self._load()
        return True

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [
            _stamp(Path(file)) for file in (self._cert_file, self._key_file, self._client_ca_file) if file
        ]

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        for file in (self._cert_file, self._key_file, self._client_ca_file):
            if file:
                _check_readable(file)
        try:
            # a passphrase would be asked for on the terminal, and the start would hang there
            context.load_cert_chain(self._cert_file, self._key_file or None, password=_refuse_passphrase)
        except (ssl.SSLError, ValueError, OSError) as error:
            raise UserError(
                f"cannot use the certificate {self._cert_file} with the key {self._key_file or 'in it'}: "
                f"{_reason(error)}; give PEM files that belong together, the key without a passphrase"
            ) from None
        if self._client_ca_file:
            try:
                context.load_verify_locations(self._client_ca_file)
            except (ssl.SSLError, OSError) as error:
                raise UserError(
                    f"cannot use the client authorities in {self._client_ca_file}: {_reason(error)}; "
                    "give a PEM file of certificates"
                ) from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def certificate_name(certificate: Mapping[str, Any] | None) -> str:
    """Of a verified client certificate as ``getpeercert`` gives it: its common name, or else its first
    subject alternative name; "" if there is none."""
    if not certificate:
        return ""
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return next((str(value) for kind, value in certificate.get("subjectAltName", ()) if kind in _NAMES), "")


def handshake_words(error: BaseException | None) -> str:
    """Why a client has no TLS connection; empty where it only went away, as one that looks at a port does."""
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ""
    reason = (error.reason or "").replace("_", " ").lower()
    return "plain HTTP, where TLS is expected" if reason == "http request" else f"no TLS connection: {reason}"


def _check_readable(file: str) -> None:
    try:
        Path(file).read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {file}: {error.strerror or error}; check the path and its rights"
        ) from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _refuse_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
