"""By which key the events of a sink keep their order, from the settings. Called by ``open_sinks.py``."""

from collections.abc import Callable
from typing import NamedTuple

from ingestd.config import Settings
from ingestd.schemas.key_paths import KeyWatch, key_of
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.sinks.sink import Sink


class OrderKey(NamedTuple):
    """``of``: an event's key, None if it has none; None: there is no order. ``watch``: of a user's paths."""

    of: Callable[[bytes], str | None] | None = None
    watch: KeyWatch | None = None


def order_key(
    settings: Settings, section: HttpSinkConfig, sink: Sink, *, warn: Callable[[str], None]
) -> OrderKey:
    """Where no order is asked for, the sink's own, if its API wants one. Raises UserError that names the
    setting; ``warn`` is told of paths that events probably lack."""
    paths, setting = section.order_by, f"sinks.{sink.name}.order_by"
    if paths is None:
        paths, setting = settings.delivery.order_by, "delivery.order_by"
        if not paths:
            return OrderKey(getattr(sink, "order_key", None))
        if settings.sinks and sink.name != next(iter(settings.sinks)):
            warn = _nobody  # the first sink has said it
    if not paths:
        return OrderKey()
    keys = key_of(setting, paths, settings.schema_.name, warn=warn)
    return OrderKey(keys.of, KeyWatch(setting, paths))


def _nobody(text: str) -> None:
    """It is known already."""
