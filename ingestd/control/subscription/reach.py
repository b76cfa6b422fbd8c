"""Whether a server answers at a URL that will get events, and what that proves.

The URL itself is asked: nothing is appended to it, no redirect is followed, and the guard has its say. Called
by ``subscription.py``.
"""

import json
from enum import StrEnum
from typing import NamedTuple

from ingestd.core.errors import UserError
from ingestd.transport.client import Client
from ingestd.transport.url_guard import UrlGuard

TIMEOUT_S = 5.0
UNPROVEN = "that the API gets there from its network and with its credentials, and what a role allows"

_PROBE = json.dumps({"type": "ingestd.reachability", "source": "ingestd"}).encode()
_JSON = {"content-type": "application/json"}


class Method(StrEnum):
    """How to ask. HEAD changes nothing there, and says little of POST. POST is what events come by: it may be
    taken for one. NONE: not at all, such as for what is in somebody's private network."""

    HEAD = "HEAD"
    POST = "POST"
    NONE = "NONE"


class Reach(NamedTuple):
    """``status``: of HTTP; 0 if no request was sent. ``proved``: in words; ``UNPROVEN`` is never among it."""

    status: int
    proved: str


async def check_reach(url: str, *, where: str, method: Method, guard: UrlGuard, timeout_s: float) -> Reach:
    """Raises UserError if the guard forbids it, no server answers within ``timeout_s``, or the answer is not
    that of a receiver."""
    guard.check_url(url, what=where)
    if method is Method.NONE:
        return Reach(0, "nothing: no request was made")
    posts = method is Method.POST
    async with Client(timeout_s=timeout_s, max_connections=1, max_body_bytes=4096, guard=guard) as client:
        answer = await client.request(
            method.value, url, body=_PROBE if posts else b"", headers=_JSON if posts else None
        )
    status = answer.status
    if status == 0:
        raise UserError(
            f"{where}: cannot connect to it from this machine ({answer.error}); check_destination ="
            ' "NONE" does not ask'
        )
    if 300 <= status < 400:
        raise UserError(f"{where}: it answers {status}, a redirect, which is not followed: give its target")
    if status >= 500 or (posts and status >= 400 and status not in (401, 403)):
        raise UserError(f"{where}: it answers {method.value} with {status}")
    return Reach(status, _words(status, posts=posts))


def _words(status: int, *, posts: bool) -> str:
    if status in (401, 403):
        return "a server answers there, and wants credentials"
    if posts:
        return "it takes a POST of JSON"
    if 200 <= status < 300:
        return "a server answers HEAD there; whether it takes POST is not known"
    return "a server answers there, but not to HEAD; whether it takes POST is not known"
