"""Which URLs may be asked: what a stranger names must not lead into our own network (SSRF).

``check_url`` before a URL is kept or used; ``refusal`` of each address before the client connects to it: see
``checked_resolver.py`` and ``engine.py``. Does no I/O.
"""

import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from ingestd.core.errors import UserError
from ingestd.core.regex import regex

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Nothing that is meant to be sent events is there; who may ask these can be told the secrets of a host.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google, DigitalOcean, Oracle
            "169.254.170.2",  # AWS ECS
            "169.254.170.23",  # AWS EKS
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",  # Google
            "fd00:c1::a9fe:a9fe",  # Oracle
            "192.0.0.192",  # Oracle, formerly
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure, a public address by its number
        ),
    )
)
# IANA's special-purpose registries of 2025; the table in ``ipaddress`` is as old as the interpreter.
_INTERNAL_4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24"),
            *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "240.0.0.0/4"),
        ),
    )
)
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
_INTERNAL_6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")

_LOCAL_NAMES = {"localhost", "ip6-localhost", "ip6-loopback", "localhost.localdomain"}
_METADATA_NAMES = {"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"}

# Stricter than any URL parser: where two of them differ, one checks what the other does not connect to.
_URL = regex(
    r"(?P<scheme>https?)://(?P<user>[^/?#@\\]*@)?(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,254})"
    r"(?::(?P<port>[0-9]{1,5}))?(?:[/?#][!-\[\]-~]*)?",
    re.ASCII | re.IGNORECASE,
)
# As browsers see it (WHATWG URL, "ends in a number"), and as inet_aton reads it.
_NUMBER_LIKE = regex(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.*", re.ASCII)
_FORBIDDEN, _INTERNAL = "forbidden", "internal"


class AddressRefused(ValueError):
    """The guard does not let a request go there; its text is the reason, in one line."""


class UrlGuard:
    """Link-local, multicast and metadata addresses are refused always; loopback, private (RFC 1918, RFC 6598,
    RFC 4193) and other addresses that are not of the public Internet unless ``allow_private``.

    ``allowed_hosts``: names or addresses that may be private all the same. ``allow_http``: URLs without
    TLS; None: as ``allow_private``, and to ``allowed_hosts``. Immutable, for any number of clients.
    """

    def __init__(
        self, *, allow_private: bool, allowed_hosts: Collection[str] = (), allow_http: bool | None = None
    ) -> None:
        self.allow_private = allow_private
        self._allowed_hosts = frozenset(map(_plain, allowed_hosts))
        self._allow_http = allow_http
        self.refusal = lru_cache(maxsize=256)(self._refuse)  # asked for each request

    def check_url(self, url: str, *, what: str = "the URL") -> None:
        """Raises UserError that says what is wrong with ``what``; of the URL it shows the host at most.

        No name is looked up: that is for the client, which connects to what was checked only.
        """
        match = _URL.fullmatch(url) if len(url) <= 8192 else None
        if match is None or not 1 <= int(match["port"] or 443) <= 65535:
            raise UserError(f"{what}: expected https://host/path in ASCII, without blanks or backslashes")
        if match["user"] is not None:
            raise UserError(f"{what}: it has a user or password in it: give credentials apart from it")
        host = match["host"].strip("[]")
        if match["scheme"].lower() == "http" and not self._may_be_plain(host):
            raise UserError(f"{what}: it must begin with https://")
        if words := self.refusal(host):
            raise UserError(f"{what}: {words}")

    def check_host(self, url: str) -> None:
        """Of a URL that a person has configured: its host alone. Raises AddressRefused."""
        if words := self.refusal(urlsplit(url).hostname or ""):
            raise AddressRefused(words)

    def _may_be_plain(self, host: str) -> bool:
        if self._allow_http is None:
            return self.allow_private or _plain(host) in self._allowed_hosts
        return self._allow_http

    def _refuse(self, host: str, name: str = "") -> str:
        """Why not to ``host``, a name or an address without brackets; empty: no reason.

        ``name``: whose address it is. A name is judged by itself, its addresses have to be asked for.
        """
        shown = f"{name or host} ({host})" if name else host
        address = _parse(host)
        if isinstance(address, str):
            return f"{shown[:300]} {address}: refused"
        if address is None:
            kind, words = _judge_name(_plain(host))
        else:
            kind, words = judge(address)
        allowed = self.allow_private or bool({_plain(host), _plain(name)} & self._allowed_hosts)
        return f"{shown[:300]} is {words}: refused" if kind and not (kind == _INTERNAL and allowed) else ""


def judge(address: IpAddress) -> tuple[str, str]:
    """("forbidden" | "internal" | "", what it is). Of an address within an address: the worse of the two."""
    if address in _METADATA:
        return _FORBIDDEN, "a metadata address"
    if address.is_link_local:
        return _FORBIDDEN, "a link-local address"
    if address.is_multicast:
        return _FORBIDDEN, "a multicast address"
    if isinstance(address, ipaddress.IPv4Address):
        inside = any(address in network for network in _INTERNAL_4)
        return (_INTERNAL, "an internal address") if inside else ("", "")
    inner = address.ipv4_mapped or (_last_32_bits(address) if address in _NAT64 else None)
    if inner is not None:
        return judge(inner)
    # 6to4 (RFC 3056) and IPv4-compatible (RFC 4291 2.5.5.1): old, internal here, and they may hide worse
    inner = address.sixtofour or (_last_32_bits(address) if address in _COMPATIBLE else None)
    if inner is not None and int(address) > 1 and (found := judge(inner))[0] == _FORBIDDEN:
        return found
    if address not in _GLOBAL_6 or any(address in network for network in _INTERNAL_6):
        return _INTERNAL, "an internal address"
    return "", ""


def _judge_name(name: str) -> tuple[str, str]:
    if name in _METADATA_NAMES:
        return _FORBIDDEN, "a metadata host"
    if name in _LOCAL_NAMES or name.endswith(".localhost"):
        return _INTERNAL, "an internal name"
    return "", ""


def _parse(host: str) -> IpAddress | str | None:
    """The address; None for a name; or what is wrong, in words.

    ``127.1``, ``0x7f000001`` and ``017700000001`` are all 127.0.0.1 to the system, and nothing to us.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        odd = not host.isascii() or not host or "%" in host or ":" in host or host.endswith("..")
        return "is written in an odd way" if odd or _NUMBER_LIKE.fullmatch(host) else None
    # Full-width digits are digits to Python, and a zone names one of our own interfaces.
    return address if host.isascii() and "%" not in host else "is written in an odd way"


def _last_32_bits(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _plain(host: str) -> str:
    """As names are compared: without case, brackets, and the dot of the root."""
    return host.lower().strip("[]").removesuffix(".")
