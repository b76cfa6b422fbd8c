"""aiohttp's protocol of one connection, for answers with two equal Content-Lengths. Used by ``sessions.py``.

RFC 9110 8.6 lets a recipient take ``Content-Length: 2, 2``, or the line twice, for one; proxies send that.
llhttp refuses it. So such an answer, when it has been refused, is read a second time with the line once.
"""

import re
from typing import Any

from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage

_MAX_KEPT_BYTES = 256 * 1024
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]+(?:[ \t]*,[ \t]*[0-9]+)*)[ \t]*\r?\n")


class LenientResponseHandler(ResponseHandler):
    """``ResponseHandler``, with a parser around its own."""

    def set_response_params(self, **params: Any) -> None:
        super().set_response_params(**params)
        self._parser = _SecondChance(self._parser, self, params)  # type: ignore[assignment]

    def make_parser(self, params: dict[str, Any]) -> Any:
        """Another parser for the same answer."""
        super().set_response_params(**params)
        return self._parser


class _SecondChance:
    """Keeps the head of an answer until it is whole, in the pieces it came in."""

    __slots__ = ("_earlier", "_handler", "_params", "_parser", "_whole")

    def __init__(self, parser: Any, handler: LenientResponseHandler, params: dict[str, Any]) -> None:
        self._parser = parser
        self._handler = handler
        self._params = params
        self._earlier = bytearray()
        self._whole = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> Any:
        if self._whole:
            return self._parser.feed_data(data)
        try:
            done = self._parser.feed_data(data)
        except BadHttpMessage as error:
            head = _collapse(bytes(self._earlier) + data) if "Content-Length" in error.message else None
            if head is None:
                raise
            self._whole = True
            self._parser = self._handler.make_parser(self._params)
            self._handler._parser = self  # type: ignore[assignment]  # noqa: SLF001 - it is ours
            return self._parser.feed_data(head)
        if done[0] or len(self._earlier) > _MAX_KEPT_BYTES:
            self._whole = True
        else:
            self._earlier += data
        return done


def _collapse(come: bytes) -> bytes | None:
    """What has come so far, with one Content-Length; None where they are not the same, or not whole."""
    head, end, rest = come.partition(b"\r\n\r\n")
    lines = list(_LENGTH.finditer(head + b"\r\n"))
    lengths = {int(number) for line in lines for number in line[1].split(b",")}
    if not end or len(lengths) != 1:
        return None
    kept = _LENGTH.sub(b"", head + b"\r\n")
    return kept + b"Content-Length: %d\r\n\r\n" % lengths.pop() + rest
