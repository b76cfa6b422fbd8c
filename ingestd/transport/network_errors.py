"""Errors of the network in fixed words. Called by ``engine.py``.

The libraries' own messages quote URLs, and what the other side sent, which may be what we sent: a token.
"""

import os
import ssl

import aiohttp


class NoAnswer(Exception):
    """A request without an answer; its text is in fixed words."""


class Unsent(NoAnswer):
    """Before the first byte of it was written."""


class ConnectionLost(NoAnswer):
    """While it was sent, or afterwards."""


class CutWhileSending(NoAnswer):
    """The connection was lost before all of the body was written: by RFC 9112 6.3 and 8, a message that no
    recipient may take for a whole one."""


# In order: the first that fits. What is more special stands first.
_WORDS: tuple[tuple[type[Exception], type[NoAnswer], str], ...] = (
    (aiohttp.ClientConnectorDNSError, Unsent, "host name not found"),
    (aiohttp.ClientProxyConnectionError, Unsent, "cannot connect to the proxy"),
    (aiohttp.ClientHttpProxyError, Unsent, "the proxy refused"),
    (aiohttp.ConnectionTimeoutError, Unsent, "no connection in time"),
    (aiohttp.SocketTimeoutError, NoAnswer, "no answer in time"),
    (TimeoutError, NoAnswer, "no complete answer in time"),
    (aiohttp.ServerDisconnectedError, ConnectionLost, "connection closed before an answer came"),
    (aiohttp.ClientPayloadError, NoAnswer, "the answer is not HTTP"),
    (aiohttp.NonHttpUrlClientError, Unsent, "the URL is not http or https"),
    (aiohttp.InvalidURL, Unsent, "the URL is not valid"),
    (ValueError, Unsent, "a header or the URL has forbidden characters"),
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


def as_no_answer(raised: Exception, *, whole: bool = True) -> NoAnswer:
    """For an exception of aiohttp's, of the operating system's, or of ``ssl``'s. ``whole``: all of the
    request was written."""
    error = _find(raised)
    if whole or not isinstance(error, ConnectionLost):
        return error
    return CutWhileSending(f"{error}, before all of the request was sent")


def _find(raised: Exception) -> NoAnswer:
    if tls := _tls_words(raised):
        return (Unsent if isinstance(raised, aiohttp.ClientConnectorError) else ConnectionLost)(tls)
    for kind, meaning, words in _WORDS:
        if isinstance(raised, kind):
            return meaning(words)
    if isinstance(raised, aiohttp.ClientResponseError):
        return NoAnswer(_head_words(raised.message))
    if isinstance(raised, aiohttp.ClientConnectorError):
        return Unsent(f"cannot connect: {_system_words(raised.os_error)}")
    if isinstance(raised, OSError):
        return ConnectionLost(f"connection lost: {_system_words(raised)}")
    return ConnectionLost(f"connection lost: {type(raised).__name__}")


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
