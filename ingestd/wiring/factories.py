"""Makes what the settings describe: sinks, the keys that order their events, the validator, the audit file.

Called by ``pipeline.py``, ``open_sinks.py``, ``check`` and ``publish``. Here stands what a sink may not do
itself: files are read, and URLs are checked.
"""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ingestd.config import BatchConfig, Login, Settings
from ingestd.config.secret_settings import secrets_in
from ingestd.config.sections import AuditConfig
from ingestd.core import redaction
from ingestd.core.address import check_url
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.json_path import Path as JsonPath
from ingestd.core.json_path import parse
from ingestd.core.ledger import Ledger, SinkLedger
from ingestd.core.reasons import Reason
from ingestd.core.units import counted
from ingestd.processing.validate import Validator
from ingestd.schemas.event_limits import EventLimits
from ingestd.schemas.key_paths import KeyWatch
from ingestd.schemas.load import load as load_schema
from ingestd.sinks.answers import AnswerReader
from ingestd.sinks.ingest_api import IngestApiConfig
from ingestd.sinks.item_paths import ItemPaths
from ingestd.sinks.settings import ConfirmConfig, HttpSinkConfig, SinkBasis
from ingestd.sinks.sink import Sink
from ingestd.store.rescue import Mended
from ingestd.store.spool import Spool
from ingestd.store.writer import Mend
from ingestd.telemetry.audit_chain import AuditKey, open_key, read_key
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog, last_hash
from ingestd.transport.auth import read_secret
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.watched_file import Watch, WatchedFiles

if TYPE_CHECKING:
    from ingestd.store.spool_rows import SpoolDamage

Wall = Callable[[], float]


def sections_of(settings: Settings) -> dict[str, HttpSinkConfig]:
    """The sinks that have a lane, by name."""
    found = {name: one for name, one in settings.sinks.items() if isinstance(one, HttpSinkConfig)}
    return found or _USUAL


_USUAL: dict[str, HttpSinkConfig] = {"ingest_api": IngestApiConfig(type="ingest_api")}


def patterns_of(settings: Settings) -> Mapping[str, Mapping[str, object]]:
    """By sink the pattern of the events that go there."""
    return {name: section.when for name, section in sections_of(settings).items()}


def make_sink(
    name: str, section: HttpSinkConfig, login: Login | None, batch: BatchConfig, wall: Wall
) -> Sink:
    """Raises UserError that names the sink and what is wrong with its settings."""
    try:
        by_itself = section.expect == "auto" and section.expects_json
        paths = ItemPaths(**section.answers.model_dump())
        reader = AnswerReader(
            section.on_status,
            paths,
            expect_json=by_itself or section.expect == "json",
            expect_object=by_itself and not paths,
        )
        sink = section.make(
            SinkBasis(
                name,
                own_url=_own_url(name, section),
                api=login.api.rstrip("/") if login else "",
                max_events=section.max_events or batch.max_events,
                max_bytes=section.max_bytes or batch.max_bytes,
                reader=reader,
                wall=wall,
            )
        )
        UrlGuard(allow_private=section.allow_private).check_host(sink.url)
        return sink
    except ValueError as error:
        raise UserError(f"sinks.{name}: {error}") from None


def _own_url(name: str, section: HttpSinkConfig) -> str:
    if section.url:
        return _checked(name, "url", section.url)
    return _from_file(name, section.url_file) if section.url_file else ""


def question_template(name: str, confirm: ConfirmConfig, login: Login | None) -> str:
    """The URL, with {id}, by which is asked what became of an event. Raises UserError."""
    if confirm.url != "auto":
        return _checked(name, "confirm.url", confirm.url)
    if login is None:
        raise UserError(f"sinks.{name}.confirm.url: auto needs [api]")
    return status_url(login.api)


def status_url(api: str) -> str:
    """Where [api] tells what became of an event."""
    from ingestd.sinks.cloudevents import PATH  # not imported where no sink is one

    return f"{api.rstrip('/')}{PATH}/{{id}}"


def watch_url(sink: Sink, section: HttpSinkConfig, watch: Watch, clock: Clock) -> None:
    """Where the URL stands in a file, follow that. Raises UserError."""
    if not section.url_file or section.url:
        return
    from ingestd.sinks.webhook import WebhookSink  # not imported where no sink is one

    assert isinstance(sink, WebhookSink)

    def read() -> str:
        url = _from_file(sink.name, section.url_file)
        UrlGuard(allow_private=section.allow_private).check_host(url)
        return url

    WatchedFiles(
        (section.url_file,),
        read,
        what=f"sinks.{sink.name}.url_file",
        watch=watch,
        monotonic=clock.monotonic,
        on_change=sink.move,
    )


def _from_file(name: str, path: str) -> str:
    try:
        url = read_secret(path)
    except (OSError, ValueError) as error:  # UnicodeDecodeError is one
        raise UserError(f"sinks.{name}.url_file {path}: {error}") from None
    for secret in secrets_in(url, whole=True):
        redaction.hide(secret)
    return _checked(name, "url_file", url)


def _checked(name: str, field: str, url: str) -> str:
    try:
        check_url(url)
    except ValueError as error:
        raise UserError(f"sinks.{name}.{field}: {error}") from None
    return url


def mend_later(wall: Wall) -> Mend:
    """What makes a damaged state file again. It is rarely wanted, and imports much."""

    def mend(path: Path, how: str, report: Callable[[str], None]) -> Mended:
        from ingestd.store.mend import mend

        return mend(path, how, report, wall=wall)

    return mend


def report_mended(mended: Mended, directory: Path, audit: AuditLog, warn: Callable[[str], None]) -> None:
    """The state file was damaged, and is made again: what is gone, and what there is to do."""
    audit(
        AuditEntry.STATE_MENDED,
        kept=str(mended.kept),
        lost=mended.words,
        events=mended.events,
        dead_letters=mended.letters,
        set_aside=mended.aside,
    )
    warn(
        f"the state file in {directory} was damaged, and is made again of what could be read: {mended.words}."
        f" The damaged one is {mended.kept}: look at the disk, and delete it when nobody needs it"
    )


def damaged_chunk(
    ledger: Ledger, directory: Path, warn: Callable[[str], None], damage: "SpoolDamage"
) -> None:
    """Events that were accepted are damaged where they were kept; what is left of them is set aside."""
    ledger.count_letters(Reason.DAMAGED, damage.events or 0)
    ledger.in_flight -= damage.events or 0
    from shlex import quote

    warn(
        f"chunk {damage.first} of the spool is damaged: {damage.what}; its {damage.events} events are"
        f" set aside, see `ingestd spool check --state-dir {quote(str(directory))}`"
    )


def waiting_words(spool: Spool, ledger: Ledger, own: SinkLedger, sink: str) -> str:
    """How much waits for a sink. What of the chunks that it has not read is for others is not known."""
    events = own.in_flight
    if spool.source and len(spool.cursors) == 1:
        events = ledger.in_flight
    elif spool.source and (behind := spool.cursors[sink].events) > events:
        return f"up to {behind:,} events wait"
    return f"{counted(events, 'event')} {'waits' if events == 1 else 'wait'}"


class OrderKey(msgspec.Struct, frozen=True):
    """``of``: an event's key, None if it has none; None: there is no order. ``watch``: of a user's paths."""

    of: Callable[[bytes], str | None] | None = None
    watch: KeyWatch | None = None


def order_key(
    settings: Settings, section: HttpSinkConfig, sink: Sink, *, warn: Callable[[str], None]
) -> OrderKey:
    """Where no order is asked for, the sink's own, if its API wants one. Raises UserError that names the
    setting; ``warn`` is called for paths that events probably lack."""
    paths, setting = section.order_by, f"sinks.{sink.name}.order_by"
    if paths is None:
        paths, setting = settings.delivery.order_by, "delivery.order_by"
        if not paths:
            return OrderKey(getattr(sink, "order_key", None))
        if settings.sinks and sink.name != next(iter(settings.sinks)):
            warn = _nobody  # the first sink has said it
    if not paths:
        return OrderKey()
    from ingestd.schemas.key_doubts import key_of

    keys = key_of(setting, paths, settings.schema_.name, warn=warn)
    return OrderKey(keys.of, KeyWatch(setting, paths))


def _nobody(text: str) -> None:
    """It is known already."""


FILE_NAME, KEY_NAME = "audit.jsonl", "audit.key"


def open_audit(audit: AuditConfig, directory: Path, *, rotates: bool = True) -> AuditLog:
    """Close it. ``directory``: of the state. ``rotates``: False for a command beside a service, which
    rotates. Raises UserError."""
    path = Path(audit.file) if audit.file else directory / FILE_NAME
    key = open_key(_key_path(audit, directory), last_hash=partial(last_hash, path))
    return AuditLog(path, max_bytes=audit.max_bytes if rotates else sys.maxsize, keep=audit.keep, key=key)


def find_keys(audit: AuditConfig, directory: Path) -> list[AuditKey]:
    """Those that a log may be made with; none is made. Raises UserError for one that cannot be read."""
    paths = [Path(audit.key_file)] if audit.key_file else []
    if os.path.lexists(own := directory / KEY_NAME):
        paths.append(own)
    return list(dict.fromkeys(read_key(path) for path in paths))


def _key_path(audit: AuditConfig, directory: Path) -> Path:
    """A key that is kept elsewhere is linked in the state directory: commands that are given no configuration
    find it there."""
    own = directory / KEY_NAME
    if not audit.key_file:
        return own
    path = Path(audit.key_file).absolute()
    with suppress(FileExistsError):
        directory.mkdir(parents=True, exist_ok=True)
        own.symlink_to(path)
    return path


Warn = Callable[[str], None]


def make_validator(settings: Settings, *, warn: Warn = lambda text: None) -> Validator:
    """Raises UserError for a schema that cannot be loaded or key paths that make no sense; ``warn`` is called
    with of those that its events probably lack."""
    wanted = settings.schema_
    limits = EventLimits(wanted.max_depth, wanted.max_values)
    schema = load_schema(wanted.name, limits, format_assertion=wanted.format_assertion)
    if not wanted.dedup_key:
        return Validator(schema)
    from ingestd.schemas.key_doubts import key_of

    setting = "schema.dedup_key"
    keys = key_of(setting, wanted.dedup_key, schema.name, warn=warn)
    return Validator(schema, keys, KeyWatch(setting, wanted.dedup_key))


def redacted_paths(settings: Settings) -> list[JsonPath]:
    """What of an event is not shown. Raises UserError."""
    try:
        return [parse(path) for path in settings.admin.redact]
    except ValueError as error:
        raise UserError(f"admin.redact: {error}") from None
