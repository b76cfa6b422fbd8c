"""Looks a host up once and hands on only the addresses that the guard lets pass. Called by ``engine.py``.

The connector connects to just these, so that a name which answers otherwise the next time (DNS rebinding)
gains nothing.
"""

import socket
from collections.abc import Collection

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from ingestd.transport.url_guard import AddressRefused, UrlGuard


class CheckedResolver(AbstractResolver):
    """``proxies``: (host, port) that are not checked: they are of our own configuration."""

    def __init__(self, guard: UrlGuard, *, proxies: Collection[tuple[str, int]] = ()) -> None:
        self._guard = guard
        self._proxies = proxies
        self._inner = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises AddressRefused where no address may be connected to, OSError where there is none."""
        found = await self._inner.resolve(host, port, family)
        if (host, port) in self._proxies:
            return found
        refusals = [self._guard.refusal(one["host"].partition("%")[0], host) for one in found]
        good = [one for one, refusal in zip(found, refusals, strict=True) if not refusal]
        if found and not good:
            raise AddressRefused(refusals[0])
        return good

    async def close(self) -> None:
        await self._inner.close()
