"""Errors of the network in fixed words. Called by ``connection.py`` and ``dialer.py``.

The libraries' own messages quote URLs, and what the other side sent, which may be what we sent: a token.
"""

import os
import ssl


class NoAnswer(Exception):
    """A request without an answer; its text is in fixed words."""


class Unsent(NoAnswer):
    """Before the first byte of it was written."""


class ConnectionLost(NoAnswer):
    """While it was sent, or afterwards."""


class CutWhileSending(NoAnswer):
    """The connection was lost before all of the body was written: by RFC 9112 6.3 and 8, a message that no
    recipient may take for a whole one."""


TOO_LONG_A_LINE = "a line of the answer's head is too long (over 128 KiB)"
TOO_MANY_LINES = "the answer has too many header lines"

# What llhttp says first, of an answer's head that it does not take.
_HEAD_WORDS = (
    ("Duplicate Content-Length", "the answer has two Content-Length lines that differ"),
    ("Invalid character in Content-Length", "the answer's Content-Length is not a number"),
    ("Transfer-Encoding can't be present", "the answer has both Content-Length and Transfer-Encoding"),
    ("Content-Length can't be present", "the answer has both Content-Length and Transfer-Encoding"),
    ("Invalid header", "the answer has a header line that is not valid"),
)


def bad_head(reason: str = "") -> NoAnswer:
    """For an answer that cannot be read. ``reason``: by llhttp."""
    words = next(
        (words for start, words in _HEAD_WORDS if reason.startswith(start)), "the answer is not HTTP"
    )
    return NoAnswer(words)


def unconnected(error: Exception, *, proxied: bool) -> Unsent:
    """For what a connection ended with before it was one."""
    if tls := _tls_words(error):
        return Unsent(tls)
    if proxied:
        return Unsent("cannot connect to the proxy")
    return Unsent(f"cannot connect: {_words(error)}")


def lost(error: Exception | None, *, whole: bool = True) -> NoAnswer:
    """For what a connection ended with before the answer's head; None: it was closed. ``whole``: all of the
    request was written."""
    if error is None:
        words = "connection closed before an answer came"
    else:
        words = _tls_words(error) or f"connection lost: {_words(error)}"
    return ConnectionLost(words) if whole else CutWhileSending(f"{words}, before all of the request was sent")


def _tls_words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').lower().replace('_', ' ')}"
    return ""


def _words(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else type(error).__name__
