"""How a target or destination comes to be verified, or does not. Used by both kinds."""

from collections.abc import Mapping
from typing import Any

from ingestd.core.clock import Clock
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.resources import Resource
from ingestd.sandbox.faults import Faults

PENDING, VERIFIED = "PENDING_VERIFICATION", "VERIFIED"

_ORDERED: Mapping[str, tuple[str, str | None]] = {
    "verify-fail": ("FAILED", "the endpoint answered 500 (injected by --fault)"),
    "verify-timeout": ("TIMEOUT", "the endpoint did not answer in time (injected by --fault)"),
    "verify-odd": ("UNDER_REVIEW", None),
}


class Verification:
    """Pending at first; once it is due, what the faults say, and else VERIFIED, for good.

    Any other result is decided again at every request: without its fault, the same resource succeeds.
    """

    def __init__(self, clock: Clock, options: ControlOptions) -> None:
        self._clock = clock
        self._options = options

    def look(self, resource: Resource, faults: Faults, *, asked: bool = False) -> str:
        """The status as of now. ``asked``: a client polls."""
        resource.polls += asked
        if resource.status == VERIFIED or not self._due(resource):
            return resource.status
        fault = faults.strikes("verify", resource.identity)
        if fault is not None:
            resource.status, resource.error = _ORDERED[fault.kind]
        elif resource.probed is not None and not 200 <= resource.probed < 300:
            answer = f"answered {resource.probed}" if resource.probed else "could not be reached"
            resource.status, resource.error = "FAILED", f"the endpoint {answer}"
        else:
            resource.status, resource.error = VERIFIED, None
        return resource.status

    def answer(self, resource: Resource, faults: Faults) -> dict[str, Any]:
        """Of ``/verify``: ``{status, error?}``, and no id, as in seed 000."""
        content: dict[str, Any] = {"status": self.look(resource, faults, asked=True)}
        return content | ({"error": resource.error, "message": resource.error} if resource.error else {})

    def _due(self, resource: Resource) -> bool:
        if self._options.verify_endpoints and resource.probed is None and "endpointUrl" in resource.content:
            return False
        at = self._options.verified_at_poll
        waited_s = self._clock.monotonic() - resource.since
        return 0 < at <= resource.polls or waited_s >= self._options.verified_after_s
