"""``ingestd run``: with a state file, an edge, a worker, or all of these on one machine.

Each imports what it needs: the children of a supervisor share its memory, but each is counted with all of it.
"""

import gc
from collections.abc import Callable

from ingestd.config import Settings
from ingestd.core.errors import UserError


def serve_until_signal(
    load_settings: Callable[[], Settings], *, edge: bool = False, worker: bool = False
) -> int:
    """What ``ingestd run`` does; the exit code. ``edge``, ``worker``: only that half, where the spool is
    on NATS. Raises UserError for what could not even begin."""
    gc.set_threshold(50_000, 20, 20)  # unlike a replay it runs for months: rare cycles must go too
    settings = load_settings()
    if settings.spool.workers:
        if edge or worker:
            raise UserError(
                "with spool.workers `ingestd run` starts edges and workers: leave --edge and --worker out"
            )
        from ingestd.app.cluster.supervisor import supervise

        return supervise(load_settings, settings)
    if settings.spool.kind == "nats":
        from ingestd.app.cluster.run import serve_on_nats

        return serve_on_nats(load_settings, settings, edge=edge or not worker, worker=worker or not edge)
    if edge or worker:
        raise UserError("--edge and --worker need a spool that others share: set spool.kind = 'nats'")
    from ingestd.app.run import serve_one_process

    return serve_one_process(load_settings, settings)
