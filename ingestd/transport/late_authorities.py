"""Imports aiohttp, which makes TLS contexts meanwhile: such as read their authorities late, or never, where
it asks for no certificate (50 ms of each start).

To be imported before it, by whatever serves or speaks WebSocket with it.
"""

import os
import ssl

from ingestd.transport.tls import LateContext


def _import_aiohttp() -> None:
    make, authorities = ssl.create_default_context, os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = os.devnull
    ssl.create_default_context = lambda: LateContext(ssl.SSLContext.load_default_certs)  # type: ignore
    try:
        import aiohttp.connector  # noqa: F401
    finally:
        ssl.create_default_context = make
        del os.environ["SSL_CERT_FILE"]
        if authorities is not None:
            os.environ["SSL_CERT_FILE"] = authorities


_import_aiohttp()
