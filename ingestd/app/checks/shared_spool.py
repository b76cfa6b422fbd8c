"""The checks of a spool on NATS: what edges and workers refuse, and what the server makes of the promises."""

import importlib.util
from collections.abc import AsyncIterator, Iterator

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.config import Settings
from ingestd.core.errors import UserError


def check_shared_spool(settings: Settings) -> Iterator[Finding]:
    """Without asking anybody."""
    from ingestd.app.cluster.local_server import what_is_missing
    from ingestd.cluster.limits import check_edge, check_worker

    if importlib.util.find_spec("nats") is None:
        yield fail("spool", "NATS needs nats-py: pip install 'ingestd[nats]'")
        return
    if settings.spool.workers and (missing := what_is_missing(settings)):
        yield fail("spool", missing)
        return
    refused = []
    for check in (check_edge, check_worker):
        try:
            check(settings)
        except UserError as error:
            refused.append(fail("spool", str(error)))
    spool = settings.spool
    if spool.workers:
        where = f"a nats-server of its own, {spool.workers} edges, {spool.workers} workers"
    else:
        where = ", ".join(spool.servers)
    shown = f"{spool.name} at {where}, {spool.partitions} partitions"
    yield from refused or [ok("spool", shown)]
    if not spool.wants_tls and any(not _is_local(server) for server in spool.servers):
        yield warn("spool", "events come unencrypted to the spool: give servers as tls://, or set ca_file")


def _is_local(server: str) -> bool:
    return any(f"://{host}" in server for host in ("127.", "localhost", "[::1]"))


async def check_shared_spool_online(settings: Settings) -> AsyncIterator[Finding]:
    from ingestd.app.cluster.judgement import judge_spool, open_connection
    from ingestd.sources.nats.connection import JetStreamError

    try:
        async with open_connection(settings) as connection:
            for finding in await judge_spool(connection, settings):
                yield finding
    except (UserError, JetStreamError) as error:
        yield fail("spool", str(error))
