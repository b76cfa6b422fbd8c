"""What a spool on JetStream does not do, or not yet: refused in words before anything begins."""

from ingestd.config import Settings
from ingestd.config.settings import sinks_that_send
from ingestd.core.errors import UserError

_NOT_YET = "is not there with spool.kind = 'nats'"


def check_edge(settings: Settings) -> None:
    """Raises UserError."""
    ingest = settings.ingest
    for kind in ("files", "nats", "kafka", "sqs", "genesys_notifications"):
        if getattr(ingest, kind):
            raise UserError(f"[ingest.{kind}] {_NOT_YET}: edges take events over HTTP only")


def check_worker(settings: Settings) -> None:
    """Raises UserError."""
    sending = sinks_that_send(settings)
    if settings.transforms:
        raise UserError(f"transforms {_NOT_YET}")
    for name in settings.sinks:
        if name not in sending:
            raise UserError(f"sinks.{name} is a lake: that {_NOT_YET}")
    order_by = _paths(settings.delivery.order_by)
    for name, section in sending.items():
        if section.confirms is not None:
            raise UserError(f"sinks.{name}.confirm {_NOT_YET}")
        if section.transforms:
            raise UserError(f"sinks.{name}.transforms {_NOT_YET}")
        if getattr(section, "handshake_origin", ""):
            raise UserError(f"sinks.{name}.handshake_origin {_NOT_YET}")
        if section.max_backlog is not None or section.max_backlog_age is not None:
            raise UserError(f"sinks.{name}.max_backlog {_NOT_YET}: spool.max_bytes bounds what waits")
        if section.order_by is not None and _paths(section.order_by) not in ([], order_by):
            raise UserError(
                f"sinks.{name}.order_by is not delivery.order_by: events are spread over partitions by the"
                " latter, so only that order can be kept"
            )


def check_order(name: str, *, own_order: bool, settings: Settings) -> None:
    """``own_order``: the sink's API wants an order of its own. Raises UserError."""
    if own_order and not settings.delivery.order_by:
        raise UserError(
            f"sinks.{name} keeps an order of its own: say by which paths in delivery.order_by, on edges and"
            f" workers, or give it up with sinks.{name}.order_by = ''"
        )


def _paths(setting: str) -> list[str]:
    return [path.strip() for path in setting.split(",") if path.strip()]
