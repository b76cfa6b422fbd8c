"""One request on its way through the sandbox. Made by ``sandbox/server.py``, read by every endpoint."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from ingestd.sandbox import contract
from ingestd.sandbox.contract import ContractError, ErrorDetail, Reply
from ingestd.sandbox.faults import FaultPlan, Faults
from ingestd.sandbox.inbox import Inbox


class Exchange(NamedTuple):
    """One request, read to its end, with what shall happen to it.

    ``params``: the variable parts of its path, ``query``: what follows it. ``faults`` are asked about its
    events one by one; ``order`` is what was decided for the request as a whole. ``inbox`` counts for its
    path. ``origin``: scheme, host and port that the client knows.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    content_type: str
    body: bytes
    context: str
    order: FaultPlan
    params: Mapping[str, str]
    faults: Faults
    inbox: Inbox
    query: Mapping[str, str]
    origin: str = ""

    def error(
        self,
        status: int,
        code: str,
        message: str,
        *,
        errors: Sequence[ContractError] = (),
        details: Sequence[ErrorDetail] = (),
    ) -> Reply:
        return contract.error(status, code, message, self.context, errors=errors, details=details)


ExchangeHandler = Callable[[Exchange], Awaitable[Reply]]
"""Gives a Reply, or raises ``contract.Refused`` with one."""
