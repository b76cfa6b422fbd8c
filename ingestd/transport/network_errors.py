"""Errors of the network in fixed words. Called by ``engine.py``.

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


def as_httpx_error(raised: Exception, *, whole: bool = True) -> httpx.TransportError:
    """httpx's exception for one of aiohttp's, of the operating system's, or of ``ssl``'s. ``whole``: all of
    the request was written."""
    error = _find(raised)
    lost = isinstance(error, httpx.NetworkError) or isinstance(raised, aiohttp.ServerDisconnectedError)
    if whole or not lost or isinstance(error, httpx.ConnectError):
        return error
    return CutWhileSending(f"{error}, before all of the request was sent")


def _find(raised: Exception) -> httpx.TransportError:
    tls = _tls_words(raised)
    if tls:
        connecting = isinstance(raised, aiohttp.ClientConnectorError)
        return httpx.ConnectError(tls) if connecting else httpx.NetworkError(tls)
    for kind, meaning, words in _WORDS:
        if isinstance(raised, kind):
            return meaning(words)
    if isinstance(raised, aiohttp.ClientResponseError):
        return httpx.RemoteProtocolError(_head_words(raised.message))
    if isinstance(raised, aiohttp.ClientConnectorError):
        return httpx.ConnectError(f"cannot connect: {_system_words(raised.os_error)}")
    if isinstance(raised, OSError):
        return httpx.NetworkError(f"connection lost: {_system_words(raised)}")
    return httpx.NetworkError(f"connection lost: {type(raised).__name__}")


def _head_words(said: str) -> str:
    return next((words for start, words in _HEAD_WORDS if said.startswith(start)), "the answer is not HTTP")


def _tls_words(raised: Exception) -> str:
    if isinstance(raised, aiohttp.ClientConnectorCertificateError):
        raised = raised.certificate_error
    elif isinstance(raised, aiohttp.ClientConnectorError):
        raised = raised.os_error
    if isinstance(raised, ssl.SSLCertVerificationError):
        return f"TLS: certificate refused: {raised.verify_message}"
    if isinstance(raised, ssl.SSLError):
        return f"TLS: {(raised.reason or 'handshake failed').lower().replace('_', ' ')}"
    return "TLS: certificate refused" if isinstance(raised, ssl.CertificateError) else ""


def _system_words(raised: OSError) -> str:
    return os.strerror(raised.errno) if raised.errno and raised.errno > 0 else type(raised).__name__
