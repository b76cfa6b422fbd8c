"""TLS of the sandbox: a certificate that is given, or one of its own. Called by ``cli/sandbox.py``."""

import ssl
import subprocess
from pathlib import Path

from ingestd.core.errors import UserError

NAMES = ("localhost", "sandbox.test", "*.sandbox.test")
"""Of a certificate of its own, with 127.0.0.1 and ::1. ``api.sandbox.test`` and ``login.sandbox.test`` are
for the Java SDK, which derives one from the other."""
_DAYS = 30


def server_context(cert_file: str, key_file: str) -> ssl.SSLContext:
    """Raises UserError for files that do not serve."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"--tls-cert {cert_file}, --tls-key {key_file}: {error}") from None
    return context


def make_certificate(directory: Path) -> tuple[str, str]:
    """The files of a new certificate, which signs itself, and of its key. Raises UserError."""
    files = str(directory / "sandbox.crt"), str(directory / "sandbox.key")
    names = ",".join([*(f"DNS:{name}" for name in NAMES), "IP:127.0.0.1", "IP:::1"])
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", str(_DAYS), "-subj", "/CN=ingestd sandbox", "-addext", f"subjectAltName={names}"),
        *("-out", files[0], "-keyout", files[1]),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603
    except FileNotFoundError:
        raise UserError("--tls needs openssl, which is not here: give --tls-cert and --tls-key") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"--tls: openssl made no certificate: {error}") from None
    return files
