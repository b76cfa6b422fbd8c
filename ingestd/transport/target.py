"""Where a request goes: the parts of its URL, as they are sent. Called by ``client.py`` and ``engine.py``."""

import ipaddress
import string
from urllib.parse import quote, urlsplit

import msgspec

from ingestd.core.regex import regex

PORTS = {"http": 80, "https": 443}

_CONTROL = frozenset(map(chr, (*range(32), 127)))
_OF_NAMES = frozenset(string.ascii_letters + string.digits + "._~!$&'()*+,;=%-")
_SAFE = "!$%&'()*+,-./:;=@[\\]^_|~"  # as it stands: signatures are of these very bytes
_ESCAPE = regex("%(?![0-9A-Fa-f]{2})")
"""A percent sign that escapes nothing."""


class RequestTarget(msgspec.Struct, frozen=True):
    """``host``: ASCII, an IPv6 address without brackets; ``path`` with its query;
    ``netloc``: as the Host header has it, without the port that goes without saying, and the dot of the root.
    """

    scheme: str
    host: str
    port: int
    path: str
    netloc: str


class Way(msgspec.Struct, frozen=True):
    """To whom to connect: connections of one way serve each other's requests. ``proxy``: its URL."""

    scheme: str
    host: str
    port: int
    proxy: str | None


def parse_target(url: str) -> RequestTarget:
    """Raises ValueError, without what stands there, for what is not a URL of http or https with a host."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname or not _CONTROL.isdisjoint(url):
        raise ValueError("not a URL of http or https with a host")
    path = _quoted(parts.path or "/", _SAFE)
    if parts.query:
        path += "?" + _quoted(parts.query, _SAFE + "?`{}")
    port = PORTS[parts.scheme] if parts.port is None else parts.port
    host = _host(parts.hostname)
    bare = host.rstrip(".")
    netloc = f"[{bare}]" if ":" in bare else bare
    if port != PORTS[parts.scheme]:
        netloc += f":{port}"
    return RequestTarget(parts.scheme, host, port, path, netloc)


def _quoted(text: str, safe: str) -> str:
    return quote(_ESCAPE.sub("%25", text) if "%" in text else text, safe=safe)


def _host(name: str) -> str:
    if ":" in name:
        ipaddress.IPv6Address(name)
        return name
    if not name.isascii():
        import yarl  # knows IDNA, and is seldom needed

        name = yarl.URL.build(scheme="http", host=name).raw_host or ""
    if not _OF_NAMES.issuperset(name):
        raise ValueError("the host has forbidden characters")
    return name
