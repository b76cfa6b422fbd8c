"""aiohttp's protocol of one connection, for answers that are not quite HTTP. Used by ``sessions.py``.

RFC 9110 8.6 lets a recipient take ``Content-Length: 2, 2``, or the line twice, for one; proxies send that.
llhttp refuses it. So each head is looked at before, and such a one is handed on with the line once. Others
send a body with a 204, or more bytes than their Content-Length says, for which llhttp would drop the answer:
they are left out, and the connection ends with it (RFC 9112 6.3).
"""

import re
from typing import Any

from aiohttp.client_proto import ResponseHandler

_MAX_HEAD_BYTES = 132 * 1024
"""What is longer is handed on as it is: aiohttp has limits of its own, a little lower."""

_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,20}(?:[ \t]*,[ \t]*[0-9]{1,20})*)[ \t]*\r?\n")
_NAME = b"\ncontent-length:"
_MAX_DIGITS = 20
_WITHOUT_BODY = (b"204", b"304")


class LenientResponseHandler(ResponseHandler):
    """``ResponseHandler``, which is given a head whole."""

    _head: bytearray | None = None

    def set_response_params(self, **params: Any) -> None:
        self._head = bytearray()
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        if self._head is not None and data:
            if self._head or b"\r\n\r\n" not in data:
                data = self._gather(data)
                if not data:
                    self._reschedule_timeout()
                    return
            self._head = None
            data, surplus = _within_length(_collapse(data))
            if surplus:
                self.force_close()
        super().data_received(data)

    def _gather(self, data: bytes) -> bytes:
        """All that has come, once the head is whole or is none; before that nothing."""
        assert self._head is not None
        border = bytes(self._head[-3:]) + data
        self._head += data
        whole = b"\r\n\r\n" in border or b"\n\n" in border or len(self._head) > _MAX_HEAD_BYTES
        return bytes(self._head) if whole or not self._head.startswith(b"HTTP/"[: len(self._head)]) else b""


def _collapse(data: bytes) -> bytes:
    """With one Content-Length where it is there more than once and always the same; else as it is."""
    head, _, rest = data.partition(b"\r\n\r\n")
    low = head.lower()
    first = low.find(_NAME)
    if first < 0 or (low.find(_NAME, first + 1) < 0 and b"," not in low[first : low.find(b"\n", first + 1)]):
        return data
    lengths = {int(number) for line in _LENGTH.finditer(head + b"\r\n") for number in line[1].split(b",")}
    if len(lengths) != 1:
        return data
    return _LENGTH.sub(b"", head + b"\r\n") + b"Content-Length: %d\r\n" % lengths.pop() + b"\r\n" + rest


def _within_length(data: bytes) -> tuple[bytes, bool]:
    """Without what stands behind the answer's end, and whether there is something, or will be."""
    head, _, rest = data.partition(b"\r\n\r\n")
    bare = data[9:12] in _WITHOUT_BODY
    if not rest and not bare:
        return data, False
    low = head.lower()
    first = low.find(_NAME)
    number = low[first + len(_NAME) :].partition(b"\r")[0].strip() if first >= 0 else b""
    length = int(number) if number.isdigit() and len(number) <= _MAX_DIGITS else 0
    coded = b"\ntransfer-encoding:" in low
    if bare:
        return data[: len(data) - len(rest)], bool(rest or length or coded)
    surplus = len(rest) - length
    if not number.isdigit() or surplus <= 0 or coded:
        return data, False
    return data[:-surplus], True
