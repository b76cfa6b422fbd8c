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
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError, "the answer is not HTTP"),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol, "the URL is not http or https"),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol, "the URL is not valid"),
    (ValueError, httpx.LocalProtocolError, "a header or the URL has forbidden characters"),
)


# What aiohttp and llhttp say first, of an answer's head that they do not take.
_HEAD_WORDS = (
    ("Got more than", "a line of the answer's head is too long (over 128 KiB)"),
    ("Too many headers", "the answer has too many header lines"),
    ("Duplicate Content-Length", "the answer has two Content-Length lines that differ"),
    ("Invalid character in Content-Length", "the answer's Content-Length is not a number"),
    ("Transfer-Encoding can't be present", "the answer has both Content-Length and Transfer-Encoding"),
    ("Content-Length can't be present", "the answer has both Content-Length and Transfer-Encoding"),
    ("Invalid header", "the answer has a header line that is not valid"),
)


class CutWhileSending(httpx.WriteError):
    """The connection was lost before all of the body was written: by RFC 9112 6.3 and 8, a message that no
    recipient may take for a whole one."""


def as_httpx_error(trouble: Exception, *, whole: bool = True) -> httpx.TransportError:
    """httpx's exception for one of aiohttp's, of the operating system's, or of ``ssl``'s. ``whole``: all of
    the request was written."""
    error = _find(trouble)
    lost = isinstance(error, httpx.NetworkError) or isinstance(trouble, aiohttp.ServerDisconnectedError)
    if whole or not lost or isinstance(error, httpx.ConnectError):
        return error
    return CutWhileSending(f"{error}, before all of the request was sent")


def _find(trouble: Exception) -> httpx.TransportError:
    tls = _tls_words(trouble)
    if tls:
        connecting = isinstance(trouble, aiohttp.ClientConnectorError)
        return httpx.ConnectError(tls) if connecting else httpx.NetworkError(tls)
    for kind, meaning, words in _WORDS:
        if isinstance(trouble, kind):
            return meaning(words)
    if isinstance(trouble, aiohttp.ClientResponseError):
        return httpx.RemoteProtocolError(_head_words(trouble.message))
    if isinstance(trouble, aiohttp.ClientConnectorError):
        return httpx.ConnectError(f"cannot connect: {_system_words(trouble.os_error)}")
    if isinstance(trouble, OSError):
        return httpx.NetworkError(f"connection lost: {_system_words(trouble)}")
    return httpx.NetworkError(f"connection lost: {type(trouble).__name__}")


def _head_words(said: str) -> str:
    return next((words for start, words in _HEAD_WORDS if said.startswith(start)), "the answer is not HTTP")


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
