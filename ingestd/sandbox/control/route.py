"""One route of the control plane. Listed by every kind, joined to the server by ``remote_apis.py``."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from ingestd.sandbox.contract import Reply
from ingestd.sandbox.exchange import Exchange


class ControlRoute(NamedTuple):
    """``handle`` answers at once, or raises ``contract.Refused``; login, pace and ordered waits come before.

    ``bodiless``: a POST that may come without a body.
    """

    method: str
    path: str
    handle: Callable[[Exchange], Reply]
    bodiless: bool = False


def reply(status: int, content: Any) -> Reply:
    return Reply(status, msgspec.json.encode(content))
