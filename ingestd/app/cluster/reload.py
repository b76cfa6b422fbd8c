"""SIGHUP at an edge or a worker: what can change while it runs changes, or the old configuration stays whole.

What others of the spool have to have alike (the schema, keys, order) and what sinks are made of take a
restart: one process after the other, while the others go on.
"""

from functools import partial

from ingestd.app.cluster.service import ClusterService
from ingestd.app.reload import LIVE_IN_CLUSTER, cold_changes, read_again
from ingestd.app.service_parts import authenticator, endpoint_settings, limits
from ingestd.cluster.limits import check_edge, check_worker
from ingestd.config import Settings, check_run
from ingestd.telemetry import log


def reload(service: ClusterService) -> None:
    """Never raises: a bad configuration is logged, and the old one stays."""
    read_again(service, partial(_take_over, service))


def _take_over(service: ClusterService, new: Settings) -> None:
    """First all that may fail, then all at once."""
    if service.worker:
        check_worker(new)
    if edge := service.edge:
        check_edge(new)
        check_run(new)
        endpoint = service.endpoint
        keys = authenticator(new.ingest, service.clock, endpoint.authenticator.attempts)
        if service.certificates:
            service.certificates.reload()
        endpoint.authenticator = keys
        endpoint.settings = endpoint_settings(new.ingest)
        assert service.server
        service.server.change_limits(limits(new.ingest))
        edge.keep_rejected = new.ingest.keep_rejected
        service.own_metrics.producers.configure(new.ingest.producers)
    service.watch.read_again()
    log.set_level(new.log.level)
    service.needs_restart = cold_changes(service.configured, new, LIVE_IN_CLUSTER)
