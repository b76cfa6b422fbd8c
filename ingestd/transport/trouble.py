"""Trouble on the network in fixed words. Called by ``engine.py``.

The libraries' own messages quote URLs, and what the other side sent, which may be what we sent: a token.
"""

import os
import ssl

import aiohttp
import httpx

# In order: the first that fits. What is more special stands first.
_WORDS: tuple[tuple[type[Exception], type[httpx.TransportError], str], ...] = (
    (aiohttp.ClientConnectorDNSError, httpx.ConnectError, "host name not found"),
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError, "cannot connect to the proxy"),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError, "the proxy refused"),
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout, "no connection in time"),
    (aiohttp.SocketTimeoutError, httpx.ReadTimeout, "no answer in time"),
    (TimeoutError, httpx.ReadTimeout, "no complete answer in time"),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError, "connection closed before an answer came"),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError, "the answer is not HTTP"),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError, "the answer is not HTTP"),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol, "the URL is not http or https"),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol, "the URL is not valid"),
    (ValueError, httpx.LocalProtocolError, "a header or the URL has forbidden characters"),
)


def as_httpx_error(trouble: Exception) -> httpx.TransportError:
    """httpx's exception for one of aiohttp's, of the operating system's, or of ``ssl``'s."""
    tls = _tls_words(trouble)
    if tls:
        connecting = isinstance(trouble, aiohttp.ClientConnectorError)
        return httpx.ConnectError(tls) if connecting else httpx.NetworkError(tls)
    for kind, meaning, words in _WORDS:
        if isinstance(trouble, kind):
            return meaning(words)
    if isinstance(trouble, aiohttp.ClientConnectorError):
        return httpx.ConnectError(f"cannot connect: {_system_words(trouble.os_error)}")
    if isinstance(trouble, OSError):
        return httpx.NetworkError(f"connection lost: {_system_words(trouble)}")
    return httpx.NetworkError(f"connection lost: {type(trouble).__name__}")


def _tls_words(trouble: Exception) -> str:
    if isinstance(trouble, aiohttp.ClientConnectorCertificateError):
        trouble = trouble.certificate_error
    elif isinstance(trouble, aiohttp.ClientConnectorError):
        trouble = trouble.os_error
    if isinstance(trouble, ssl.SSLCertVerificationError):
        return f"TLS: certificate refused: {trouble.verify_message}"
    if isinstance(trouble, ssl.SSLError):
        return f"TLS: {(trouble.reason or 'handshake failed').lower().replace('_', ' ')}"
    return "TLS: certificate refused" if isinstance(trouble, ssl.CertificateError) else ""


def _system_words(trouble: OSError) -> str:
    return os.strerror(trouble.errno) if trouble.errno and trouble.errno > 0 else type(trouble).__name__
