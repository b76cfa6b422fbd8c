"""What ``ingestd run`` listens with: free ports, the TLS certificate, the producers' secrets."""

import errno
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.config import Settings, TlsConfig
from ingestd.core.address import parse_listen

EXPIRY_WARNING_S = 14 * 86400
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which ssl does not name


def check_ports(settings: Settings, *, holder: str) -> Iterator[Finding]:
    """``holder``: the process that has the state directory. If the ports are taken too, it is the service."""
    places = {"ingest.listen": settings.ingest.listen, "admin.listen": settings.admin.listen}
    codes = {setting: _try_to_bind(listen) for setting, listen in places.items()}
    running = bool(holder) and all(code == errno.EADDRINUSE for code in codes.values())
    if running:
        yield warn("running", f"ingestd is already running in this directory (process {holder})")
        return
    if holder:
        yield fail("state directory", f"in use by process {holder}: wait for it, or choose another state.dir")
    for setting, code in codes.items():
        address = f"{setting} {places[setting]}"
        if code == errno.EADDRINUSE:
            yield fail("ports", f"{address} is in use by another process: stop it, or choose another port")
        elif code == errno.EACCES:
            yield fail(
                "ports", f"{address}: a port below 1024 needs CAP_NET_BIND_SERVICE; choose a higher one"
            )
        elif code:
            yield fail("ports", f"{address}: cannot listen there: {_words(code)}")
        else:
            yield ok("ports", f"{address} is free")


def _try_to_bind(listen: str) -> int:
    """0, or what the operating system says (errno; a negative one of name resolution)."""
    host, port = parse_listen(listen)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
            trial.bind(address)
            trial.listen(1)
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return 0


def _words(code: int) -> str:
    return "there is no such host" if code < 0 else errno.errorcode.get(code, str(code))


def check_tls(tls: TlsConfig, *, now_s: float) -> Iterator[Finding]:
    """The certificate loads, its key is its own, and it is not about to expire. ``now_s``: wall clock."""
    if not tls.cert_file:
        return
    for setting, path in (("cert_file", tls.cert_file), ("key_file", tls.key_file)):
        if problem := _reading_error(path):
            yield fail("tls", f"ingest.tls.{setting}: {problem}")
            return
    try:
        begins_s, ends_s = _validity(tls)
    except (ssl.SSLError, ValueError) as error:
        yield fail("tls", _explain_tls(error, tls))
        return
    yield from _check_validity(tls, begins_s, ends_s, now_s)
    if tls.client_ca_file:
        yield _check_client_ca(tls.client_ca_file)


def _check_validity(tls: TlsConfig, begins_s: float, ends_s: float, now_s: float) -> Iterator[Finding]:
    day = f"{datetime.fromtimestamp(ends_s, UTC):%Y-%m-%d}"
    if now_s >= ends_s:
        yield fail("tls", f"{tls.cert_file} expired on {day}: renew it")
    elif now_s < begins_s:
        yield fail("tls", f"{tls.cert_file} is not valid yet: look at the clock of this machine")
    elif ends_s - now_s < EXPIRY_WARNING_S:
        yield warn(
            "tls", f"{tls.cert_file} expires on {day}, in {(ends_s - now_s) / 86400:.0f} days: renew it"
        )
    else:
        yield ok("tls", f"{tls.cert_file} is valid until {day}")


def _check_client_ca(path: str) -> Finding:
    if problem := _reading_error(path):
        return fail("tls", f"ingest.tls.client_ca_file: {problem}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (ssl.SSLError, ValueError):
        return fail("tls", f"ingest.tls.client_ca_file: there is no certificate in {path}: PEM expected")
    return ok("tls", f"every client needs a certificate signed by {path}, with a token, too")


def _reading_error(path: str) -> str:
    try:
        Path(path).open("rb").close()
    except (OSError, ValueError) as error:
        return f"cannot read {path}: {error.strerror if isinstance(error, OSError) else error}"
    return ""


def _validity(tls: TlsConfig) -> tuple[float, float]:
    """Begin and end of the certificate, seconds since the epoch. Raises ssl.SSLError, ValueError.

    ``ssl`` tells what is in a certificate only to a peer that has verified it: so a client in memory
    shakes hands with a server in memory, and trusts this certificate alone, whatever its date.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: b"")  # never ask on the terminal
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(tls.cert_file)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    for _ in range(4):  # TLS 1.3 needs two turns, 1.2 three
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = ends[0].getpeercert() or {}
    return (
        ssl.cert_time_to_seconds(str(certificate["notBefore"])),
        ssl.cert_time_to_seconds(str(certificate["notAfter"])),
    )


def _explain_tls(error: Exception, tls: TlsConfig) -> str:
    reason = getattr(error, "reason", "") or ""
    if reason == "KEY_VALUES_MISMATCH":
        return f"{tls.key_file} is not the key of {tls.cert_file}: give the two that belong together"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{tls.cert_file} does not serve as a server's certificate: {error.verify_message}"
    return (
        f"{tls.cert_file} and {tls.key_file} cannot be used: PEM expected, the key without a passphrase"
        f" ({reason.lower().replace('_', ' ') or 'unreadable'})"
    )
