"""The TLS side of a client, from the files of its authorities and its certificate. Called by ``client.py``.

They are read again when they change: authorities are replaced, and certificates live for days by now.
"""

import os
import ssl

import httpx

from ingestd.core.errors import UserError
from ingestd.transport.watched_file import Watch, WatchedFiles


def watch_tls(
    ca_file: str | None, *, certificate: tuple[str, str] | None, trust_env: bool, watch: Watch
) -> WatchedFiles[ssl.SSLContext]:
    """``ca_file``: PEM, instead of the usual authorities; ``certificate``: PEM files (certificate, key).
    ``trust_env``: the usual ones are those of SSL_CERT_FILE, if that is set. Raises UserError."""
    of_environment = os.environ.get("SSL_CERT_FILE") if trust_env and not ca_file else None
    paths = [path for path in (ca_file, of_environment, *(certificate or ())) if path]
    try:
        return WatchedFiles(
            paths,
            lambda: _make(ca_file, certificate, trust_env=trust_env),
            what=f"TLS ({', '.join(paths)})",
            watch=watch,
        )
    except OSError as error:  # a file that is not there
        raise UserError(f"cannot use the {_which(error, ca_file)} {error.filename}: {error}") from None


def _which(error: OSError, ca_file: str | None) -> str:
    return "CA file" if error.filename == ca_file else "certificate"


def _make(ca_file: str | None, certificate: tuple[str, str] | None, *, trust_env: bool) -> ssl.SSLContext:
    try:
        if ca_file:
            context = ssl.create_default_context(cafile=ca_file)
        else:
            context = httpx.create_ssl_context(trust_env=trust_env)
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
