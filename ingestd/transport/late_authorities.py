"""Imports aiohttp, which makes TLS contexts meanwhile: such as read their authorities late.

To be imported before it, by whatever serves or speaks WebSocket with it.
"""

import ssl

from ingestd.transport.tls import LateContext


def _import_aiohttp() -> None:
    make = ssl.create_default_context
    ssl.create_default_context = lambda: LateContext(ssl.SSLContext.load_default_certs)  # type: ignore
    try:
        import aiohttp.connector  # noqa: F401
    finally:
        ssl.create_default_context = make


_import_aiohttp()
