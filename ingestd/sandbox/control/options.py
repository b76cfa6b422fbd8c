"""How the sandbox's control plane behaves. Part of ``sandbox/apis/ingest.py``'s options."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """Durations in seconds. What goes wrong by rate is a fault (``sandbox/faults.py``).

    ``page_count``: False leaves the number of pages out of every list. ``max_page_size``: of classic
    paging; a cursor's is 200. ``hidden_reads``, ``hidden_s``: a created resource answers 404 and is in no
    list for so many reads, and so long. ``conflict_as_400``: a version that is not the current one is a
    400 "does not match the current version" instead of a 409.

    ``verified_at_poll``, ``verified_after_s``: when a target or destination is verified, whichever comes
    first; 0 polls: only time counts. ``verify_endpoints``: a target on loopback gets a request first, and
    only a 2xx verifies it. ``active_at_read``, ``attributes_at_read``: reads until an enabled integration is
    ACTIVE, and until its attributes appear.

    ``max_resources``: of one kind. ``max_subscriptions``: in the organisation, as seed 004 says;
    ``limit_enforced`` False leaves that to the client. ``max_event_types``: of one call.
    """

    page_count: bool = True
    max_page_size: int = 100
    hidden_reads: int = 0
    hidden_s: float = 0.0
    conflict_as_400: bool = False
    verified_at_poll: int = 2
    verified_after_s: float = 0.2
    verify_endpoints: bool = False
    active_at_read: int = 2
    attributes_at_read: int = 3
    max_resources: int = 1_000
    max_subscriptions: int = 25
    limit_enforced: bool = True
    max_event_types: int = 100
    max_integrations: int = 10
