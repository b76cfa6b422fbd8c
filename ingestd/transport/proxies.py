"""Which proxy a request goes through, by the environment. Called by ``engine.py`` and by ``checks``.

``NO_PROXY``, by commas or blanks: names (and all below them), ``.suffix`` (the same), ``*.suffix`` (below it
only), addresses, ranges such as ``10.0.0.0/8`` and ``fd00::/8``, each with a port if wanted, or ``*`` for
all. The standard library knows names only.
"""

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ingestd.core.errors import UserError
from ingestd.core.regex import regex
from ingestd.transport.target import RequestTarget, parse_target

_PORT = regex(r"(?P<host>\[[^\[\]]*\]|[^:]*):(?P<port>[0-9]{1,5})", re.ASCII)
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Exception(NamedTuple):
    """Where no proxy is used. ``port`` 0: any."""

    name: str = ""
    below_only: bool = False
    network: _Network | None = None
    port: int = 0

    def covers(self, host: str, port: int) -> bool:
        if self.port not in (0, port):
            return False
        if self.network is not None:
            address = _address(host)
            return address is not None and address.version == self.network.version and address in self.network
        return host.endswith("." + self.name) or (host == self.name and not self.below_only)


class Proxies:
    """``by_scheme``: http, https and all; ``no``: the text of NO_PROXY. Raises UserError for other proxies
    than HTTP ones. False where there is none."""

    def __init__(self, by_scheme: Mapping[str, str] | None = None, no: str = "") -> None:
        given = {name: url for name, url in (by_scheme or {}).items() if name in _SCHEMES and url}
        self._by_scheme = {name: _url(url) for name, url in given.items()}
        entries = [entry for entry in re.split(r"[,\s]+", no) if entry]
        self._none = "*" in entries
        self._exceptions = [_parse(entry) for entry in entries if entry != "*"]
        self.of = lru_cache(maxsize=64)(self._of)

    @classmethod
    def of_environment(cls) -> "Proxies":
        """``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``; in lower case they go first."""
        found = _environment()
        return cls(found, found.get("no", ""))

    def __bool__(self) -> bool:
        return bool(self._by_scheme) and not self._none

    @property
    def places(self) -> set[tuple[str, int]]:
        """(host, port) of each."""
        found = map(parse_target, self._by_scheme.values())
        return {(proxy.host, proxy.port) for proxy in found}

    def _of(self, target: RequestTarget) -> str | None:
        """The proxy for a request to ``target``; None: it goes straight there."""
        proxy = self._by_scheme.get(target.scheme) or self._by_scheme.get("all")
        if proxy is None or not self:
            return None
        host = target.host.lower().rstrip(".")
        return None if any(one.covers(host, target.port) for one in self._exceptions) else proxy


_SCHEMES = ("http", "https", "all")


def _url(text: str) -> str:
    """Raises UserError, without what stands there, which may hold a password."""
    text = text.strip()
    proxy = text if "://" in text else f"http://{text}"
    scheme = proxy.partition("://")[0].lower()
    if scheme not in ("http", "https"):
        raise UserError(f"the environment names a proxy of type {scheme[:20]}: only http and https are known")
    try:
        parse_target(proxy)
    except ValueError:
        raise UserError(
            "the environment names a proxy that is not a URL with a host, like http://proxy.example:3128"
        ) from None
    return proxy


def _parse(entry: str) -> _Exception:
    entry, port = entry.lower(), 0
    if match := _PORT.fullmatch(entry):
        entry, port = match["host"], int(match["port"])
    entry = entry.strip("[]")
    try:
        return _Exception(network=ipaddress.ip_network(entry, strict=False), port=port)
    except ValueError:
        pass
    below_only = entry.startswith("*.")
    return _Exception(entry.removeprefix("*").strip("."), below_only=below_only, port=port)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _environment() -> dict[str, str]:
    from urllib.request import getproxies  # 6 ms, for what most processes do without

    return getproxies()


def names_in_environment() -> str:
    """``HTTPS_PROXY`` and the like, where they are set; without their values, which may hold passwords."""
    found = _environment()
    return ", ".join(f"{scheme.upper()}_PROXY" for scheme in _SCHEMES if found.get(scheme))
