"""TLS contexts that read their authorities when they are used first: 50 ms that most processes never need.

aiohttp makes one when it is imported. ``engine.py`` imports this module before it.
"""

import os
import ssl
import sys
from collections.abc import Callable
from typing import Any


class LateContext(ssl.SSLContext):
    """What ``ssl.create_default_context`` gives to a client; ``read`` has it read its authorities."""

    read: Callable[[ssl.SSLContext], None] | None

    def __new__(cls, read: Callable[[ssl.SSLContext], None]) -> "LateContext":
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        if sys.version_info >= (3, 13):
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        if key_log := os.environ.get("SSLKEYLOGFILE"):
            context.keylog_filename = key_log
        context.read = read
        return context

    def _be_ready(self) -> None:
        read, self.read = self.read, None
        if read:
            read(self)

    def wrap_bio(self, *given: Any, **named: Any) -> ssl.SSLObject:
        self._be_ready()
        return super().wrap_bio(*given, **named)

    def wrap_socket(self, *given: Any, **named: Any) -> ssl.SSLSocket:
        self._be_ready()
        return super().wrap_socket(*given, **named)


def _import_aiohttp() -> None:
    make = ssl.create_default_context
    ssl.create_default_context = lambda: LateContext(ssl.SSLContext.load_default_certs)  # type: ignore
    try:
        import aiohttp.connector  # noqa: F401
    finally:
        ssl.create_default_context = make


_import_aiohttp()
