"""What came back from one attempt to send a request."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` is 0 when no complete answer came; then ``error`` says why, in words, without secrets.

    ``body`` is cut at the client's limit (``truncated``). ``headers`` have lower-case names.
    ``seconds`` is the attempt's duration by the monotonic clock.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: bool = False
    error: str = ""
    seconds: float = 0.0
