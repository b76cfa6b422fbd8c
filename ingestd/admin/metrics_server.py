"""``/metrics`` for Prometheus, and ``/healthz``: what runs beside a replay with ``--metrics-port``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from ingestd.admin.server import health_page, metrics_page, serve_pages


@asynccontextmanager
async def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> AsyncIterator[int]:
    """Serve until left; gives the port (0 asks for any). Raises UserError when it is taken."""
    pages = {"/metrics": metrics_page(registry), "/healthz": health_page(lambda: None)}
    async with serve_pages(pages, host, port, what="metrics") as bound:
        yield bound
