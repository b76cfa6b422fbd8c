"""What the process of a part may do: its part of every limit of a sink. What cannot be split is refused."""

import json
import os
import stat
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ingestd.app.parts.transforms import check_transforms
from ingestd.config import Settings
from ingestd.config.settings import sinks_that_send
from ingestd.core.errors import UserError
from ingestd.schemas.load import documents_of
from ingestd.sinks.settings import ConfirmConfig, HttpSinkConfig
from ingestd.sources.files.formats import kind_of
from ingestd.store.parts import Parts
from ingestd.wiring.factories import make_validator, sections_of

_NO_WORDS = "is not there with --workers"


def check_parts(settings: Settings, sources: Sequence[str], count: int) -> None:
    """Raises UserError for what several processes cannot do."""
    if not sys.platform.startswith("linux"):
        raise UserError("--workers needs Linux: elsewhere the processes would go on when this one is killed")
    for source in sources:
        _check_source(source)
    if settings.audit.file:
        raise UserError(
            f"audit.file {_NO_WORDS}: each process has its own audit file, in its directory in the state"
            " directory"
        )
    order_by(settings)
    check_transforms(settings)
    sending = sinks_that_send(settings)
    for name in settings.sinks:
        if name not in sending:
            raise UserError(f"sinks.{name} is a lake: that {_NO_WORDS}")
    for name, section in sections_of(settings).items():
        if section.handshake_origin:
            raise UserError(f"sinks.{name}.handshake_origin {_NO_WORDS}")
        for setting, limit in _limits(settings, name, section).items():
            if 0 < limit < count:
                raise UserError(
                    f"{setting} = {limit:g} is for all processes together: --workers {count} is more"
                )


def _check_source(path: str) -> None:
    """Raises UserError."""
    if path == "-":
        what = "standard input"
    else:
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # a directory is refused where it is opened
            return
        what = path
    raise UserError(
        f"{what} can be read by one process only, and with --workers each reads all of the input: write it to"
        " a file first, or leave --workers away"
    )


def _limits(settings: Settings, name: str, section: HttpSinkConfig) -> Mapping[str, float]:
    """By setting what all processes together may do; 0: as much as they can."""
    found = {
        f"sinks.{name}.requests_per_minute": float(section.requests_per_minute),
        f"sinks.{name}.events_per_second": section.events_per_second,
    }
    if section.max_in_flight:
        found[f"sinks.{name}.max_in_flight"] = float(section.max_in_flight)
    else:
        found["delivery.max_in_flight"] = float(settings.delivery.max_in_flight)
    if confirm := section.confirms:
        found[f"sinks.{name}.confirm.requests_per_minute"] = float(confirm.requests_per_minute)
        found[f"sinks.{name}.confirm.max_pending"] = float(confirm.max_pending)
    return found


def order_by(settings: Settings) -> str:
    """The paths by which events are split, since some sink keeps that order; empty: none does. Raises
    UserError where sinks want different ones."""
    default = settings.delivery.order_by
    found = {
        default if section.order_by is None else section.order_by
        for section in sections_of(settings).values()
    } - {""}
    if len(found) > 1:
        raise UserError(
            f"sinks want their events in order by {' and by '.join(sorted(found))}: with --workers events are"
            " split by one order key, so all sinks have the same, or none"
        )
    return found.pop() if found else ""


def parts_of(settings: Settings, sources: Sequence[str], count: int) -> Parts:
    """What must stay as it is while a state directory is used. Raises UserError."""
    split = {
        **_split_of_tables(settings, sources),
        "schema.dedup_key": ", ".join(make_validator(settings).key_parts),
        "order_by": order_by(settings),
        **{
            f"source.{name}": str(getattr(settings.source, name))
            for name in ("items", "format", "delimiter", "unwrap", "unwrap_fields", "max_event_bytes")
        },
    }
    return Parts(count, split)


def _split_of_tables(settings: Settings, sources: Sequence[str]) -> dict[str, str]:
    """The schema says of which type a cell is, and so what is in an event, and what makes it a copy."""
    if not any(kind_of(path, settings.source.format) for path in sources):
        return {}
    name = settings.schema_.name
    documents = documents_of(name)
    text = json.dumps(documents, sort_keys=True, default=str).encode()
    return {"schema of tables": f"{name} ({zlib.crc32(text):08x})" if documents else name}


def settings_of(settings: Settings, number: int, count: int, directory: Path) -> Settings:
    """Of the process with this number, from 0."""

    def part_of(limit: int) -> int:
        return (limit + count - 1 - number) // count

    def confirm_of(confirm: ConfirmConfig) -> ConfirmConfig:
        return confirm.model_copy(
            update={
                "requests_per_minute": part_of(confirm.requests_per_minute),
                "max_pending": part_of(confirm.max_pending),
            }
        )

    sinks = dict(settings.sinks)
    for name, section in sinks_that_send(settings).items():
        changed: dict[str, object] = {
            "requests_per_minute": part_of(section.requests_per_minute),
            "events_per_second": section.events_per_second / count,
            "max_in_flight": part_of(section.max_in_flight or settings.delivery.max_in_flight),
        }
        if confirm := getattr(section, "confirm", None):
            changed["confirm"] = confirm_of(confirm)
        sinks[name] = section.model_copy(update=changed)
    delivery = settings.delivery
    metrics = settings.metrics
    return settings.model_copy(
        update={
            "sinks": sinks,
            "delivery": delivery.model_copy(
                update={
                    "max_in_flight": part_of(delivery.max_in_flight),
                    "min_retries_per_second": delivery.min_retries_per_second / count,
                }
            ),
            # who counts all of them ends it
            "source": settings.source.model_copy(update={"max_rejected": "100%"}),
            "state": settings.state.model_copy(update={"dir": str(directory)}),
            "metrics": metrics.model_copy(
                update={"port": metrics.port + number if metrics.port else metrics.port}
            ),
        }
    )
