"""For whom a proxy asks: the client's address in ``X-Forwarded-For``, where the proxy is a trusted one.

Called by the endpoint. Refusals name this address, and wrong secrets are counted by it: behind a proxy all
clients would else share one, and any of them could have the others wait.
"""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ingestd.httpd.request import Request

_MAX_CHARS = 64
_WITH_PORT = re.compile(r"\[(?P<six>[0-9A-Fa-f:.]+)\](?::\d{1,5})?|(?P<four>[0-9.]+):\d{1,5}", re.ASCII)
"""As some proxies write a client. An IPv6 address with a port has brackets."""


class _Hop(NamedTuple):
    address: str
    trusted: bool


class TrustedProxies:
    """``ranges``: addresses and networks, as the configuration has checked them. Not empty."""

    def __init__(self, ranges: Sequence[str]) -> None:
        self._networks = [ipaddress.ip_network(one, strict=False) for one in ranges]
        self._hop = lru_cache(maxsize=1024)(self._look)

    def client_of(self, request: Request) -> str:
        """The last address that is no trusted proxy's: what stands before it the client may have made up.
        The proxy's own where it names none, or something else than an address."""
        client = request.peer
        hop = self._hop(client)
        if hop is None or not hop.trusted:
            return client
        for text in reversed(request.headers.get("x-forwarded-for", "").split(",")):
            hop = self._hop(text.strip(" \t")) if len(text) <= _MAX_CHARS else None
            if hop is None:
                break
            client = hop.address
            if not hop.trusted:
                break
        return client

    def _look(self, text: str) -> _Hop | None:
        if with_port := _WITH_PORT.fullmatch(text):
            text = with_port["six"] or with_port["four"]
        try:
            found = ipaddress.ip_address(text.partition("%")[0])  # a zone is any text, and of one machine
        except ValueError:
            return None
        address = getattr(found, "ipv4_mapped", None) or found
        return _Hop(str(address), any(address in network for network in self._networks))
