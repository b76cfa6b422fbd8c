"""The console's contract (``admin/read_model.py``) at a supervisor: its processes as one service, and dead
letters in the stream.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import to_thread

from ingestd.admin.access import Access
from ingestd.admin.api import Api
from ingestd.admin.console import Console
from ingestd.admin.read_model import Changed, Charts, LetterQuery, Overview
from ingestd.app.cluster import letters as stream_letters
from ingestd.app.cluster import park
from ingestd.app.cluster.machine_view import MachineView
from ingestd.app.cluster.probe import probe
from ingestd.app.cluster.tap_hub import TapHub
from ingestd.app.cluster.where import where
from ingestd.app.console.looks import Looks
from ingestd.app.console.service_model import redacted
from ingestd.app.letters import letters
from ingestd.app.letters.correction import open_edit
from ingestd.app.letters.retry_result import RetryResult
from ingestd.config import ConfigFile, Settings
from ingestd.config.show import lines
from ingestd.core import redaction
from ingestd.core.clock import Clock
from ingestd.core.errors import NotFound, UserError
from ingestd.core.text import cut
from ingestd.core.toml import spell
from ingestd.store.dead_letters import Filter
from ingestd.telemetry.audit_entry import Audit, AuditEntry
from ingestd.telemetry.tap import WHAT, TapReader
from ingestd.wiring.factories import make_validator, redacted_paths, sections_of
from ingestd.wiring.producer_keys import console_tokens

if TYPE_CHECKING:
    from aiohttp import web

T = TypeVar("T")
_OBEY_S = 2.0
"""So long it is waited for workers to say that they obey."""


class MachineModel:
    """``ReadModel`` and ``Actions``. ``load``: where the settings are from; ``workers``: names of
    those that live, by process id."""

    def __init__(
        self,
        load: Callable[[], Settings],
        settings: Settings,
        view: MachineView,
        *,
        workers: Callable[[], dict[int, str]],
        tap: TapHub,
        clock: Clock,
        audit: Audit,
    ) -> None:
        self._tap = tap
        self._workers = workers
        self._load = load
        self._settings = settings
        self._view = view
        self._clock = clock
        self._audit = audit
        self._read_at = clock.wall()
        self._redact_paths = redacted_paths(settings)
        self._looks = Looks()

    # --- to read ---

    def overview(self) -> Overview:
        return self._view.overview()

    def charts(self) -> Charts:
        return self._view.charts()

    def status(self) -> dict[str, Any]:
        """``/v1/status`` is a page of its own here."""
        return {}

    def configuration(self) -> dict[str, Any]:
        load, rows = self._load, list[tuple[str, str, str]]()
        origins = load.origins if isinstance(load, ConfigFile) else {}
        for place, value, origin in lines(self._settings, origins):
            rows.append((".".join(place), "not set" if value is None else spell(value), str(origin)))
        file = load.path if isinstance(load, ConfigFile) else None
        return {"file": file, "read_at": self._read_at, "settings": rows}

    def refusals(self) -> list[dict[str, Any]]:
        """The last ones, latest first."""
        return self._view.refusals.latest_first()

    def tap(self, *, sink: str, what: str, when: str) -> AbstractContextManager[TapReader]:
        if sink and sink not in {*self._view.sinks, *sections_of(self._settings)}:
            raise NotFound(f"there is no sink {cut(sink)}")
        if what and what not in WHAT:
            raise UserError(f"there is no {cut(what)}: choose one of {', '.join(WHAT)}")
        return self._tap.listen(sink=sink, what=what, when=when)

    @property
    def redacts(self) -> bool:
        return bool(self._redact_paths)

    def redact(self, shown: dict[str, Any]) -> dict[str, Any]:
        return redacted(shown, self._redact_paths) if self._redact_paths else shown

    async def letters(self, query: LetterQuery, *, limit: int) -> dict[str, Any]:
        def read(directory: str, where: Filter) -> dict[str, Any]:
            with letters.find(directory, where, limit=limit, now=self._clock.wall()) as (found, total):
                return {"letters": [*found], "total": total}

        return await self._read(query, read)

    async def export(
        self, query: LetterQuery, *, after: int, limit: int, now: float | None
    ) -> tuple[list[dict[str, Any]], float]:
        at = self._clock.wall() if now is None else now
        read = partial(letters.page, after=after, limit=limit, now=at)
        return await self._read(query, read), at

    async def damaged(self, query: LetterQuery, *, now: float) -> tuple[int, list[int]]:
        return 0, []  # the broker looks after what it stores

    async def groups(self, query: LetterQuery) -> list[dict[str, Any]]:
        now = self._clock.wall()
        return await self._read(query, lambda directory, where: letters.groups(directory, where, now=now))

    async def letter(self, number: int) -> dict[str, Any]:
        found = await self._read({}, lambda directory, _: letters.get(directory, number))
        return {**found, "timeline": []}

    async def where(self, key: str) -> dict[str, Any]:
        if not key.strip():
            raise UserError("give the key of an event, the event itself, or the id of a request")
        return await self._looks.take(partial(where, self._settings, key.strip()))

    def check(self, payload: bytes) -> list[str]:
        refused = make_validator(self._settings).check([payload]).refused
        return [refused[0].words] if refused else []

    async def _read(self, query: LetterQuery, read: Callable[[str, Filter], T]) -> T:
        where = letters.make_filter(**query)

        def work() -> T:
            with stream_letters.snapshot(self._settings, where) as directory:
                return read(str(directory), where)

        return await _aside(work)

    # --- to change ---

    async def probe(self, sink: str, *, who: str) -> Changed:
        if sink not in {*self._view.sinks, *sections_of(self._settings)}:
            raise NotFound(f"there is no sink {cut(sink)}")
        done = await _aside(partial(probe, self._settings, sink, self._workers()))
        self._audit(AuditEntry.SINK_PROBED, sink=sink, who=who)
        return done

    async def park(self, sink: str, *, who: str, on: bool) -> Changed:
        workers = self._workers()
        work = partial(
            park.change,
            self._settings,
            sink,
            on=on,
            wait_s=_OBEY_S,
            who=who,
            noted=partial(park.note, self._audit, sink, on=on, who=who),
            expected=workers.keys(),
            obeying=True,
        )
        done = await _aside(work)
        self._view.note_parked(sink, done.now)
        words = park.words(sink, done, workers, on=on)
        return Changed(dry_run=False, selected=1, changed=int(done.changed), words=words)

    async def retry(self, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
        return await self._mark(query, who=who, dry_run=dry_run)

    async def correct(self, query: LetterQuery, expression: str, *, who: str, dry_run: bool) -> Changed:
        if not expression.strip():
            raise UserError("give an expression of jq")
        return await self._mark(query, who=who, expression=expression, dry_run=dry_run)

    async def edit(self, number: int, payload: bytes, *, who: str) -> Changed:
        return await self._mark({"ids": [number]}, who=who, payload=payload)

    async def _mark(
        self,
        query: LetterQuery,
        *,
        who: str,
        payload: bytes | None = None,
        expression: str = "",
        dry_run: bool = False,
    ) -> Changed:
        where = letters.make_filter(**query)

        def retry() -> RetryResult:
            with open_edit(expression) as edit:
                return stream_letters.retry(
                    self._settings, where, payload=payload, edit=edit, dry_run=dry_run
                )

        result = await _aside(retry)
        if not dry_run:
            edited = payload is not None or bool(expression)
            entry = AuditEntry.LETTER_EDITED if edited else AuditEntry.LETTERS_REQUESTED
            self._audit(entry, count=result.marked, who=who)
        changed = result.sent if dry_run else result.marked
        words = result.words().splitlines()
        return Changed(dry_run=dry_run, selected=result.selected, changed=changed, words=words)

    async def park_letters(self, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
        words = ["parked letters are not sent by themselves any more; send them again when it is time"]
        total = (await self.letters(query, limit=0))["total"]
        if dry_run or not total:
            return Changed(dry_run=dry_run, selected=total, changed=total, words=words)
        where = letters.make_filter(**query)
        count, parked = await _aside(partial(stream_letters.park, self._settings, where))
        self._audit(AuditEntry.LETTERS_PARKED, count=parked, who=who)
        words = [f"{count - parked} of them waited for a person already"] if parked < count else []
        return Changed(dry_run=False, selected=count, changed=parked, words=words)

    async def purge(self, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
        total = (await self.letters(query, limit=0))["total"]
        if dry_run or not total:
            return Changed(dry_run=dry_run, selected=total, changed=total, words=[])
        where = letters.make_filter(**query)
        done = await _aside(partial(stream_letters.purge, self._settings, where))
        self._audit(AuditEntry.LETTERS_PURGED, count=done.deleted, who=who)
        words = [f"{done.left} others of the same requests wait for a person now"] if done.left else []
        return Changed(dry_run=False, selected=total, changed=done.deleted, words=words)


def pages_of(
    load: Callable[[], Settings],
    settings: Settings,
    view: MachineView,
    *,
    workers: Callable[[], dict[int, str]],
    tap: TapHub,
    clock: Clock,
    audit: Audit,
) -> "list[web.RouteDef]":
    """The console and its API. Raises UserError for tokens that cannot be read."""
    model = MachineModel(load, settings, view, workers=workers, tap=tap, clock=clock, audit=audit)
    access, tokens = Access(clock), console_tokens(settings.admin.tokens)
    for one in tokens:
        redaction.hide(one.token)
    access.configure(tokens)
    return [*Api(model, model, access).routes(), *Console(model, model, access).routes()]


async def _aside(work: Callable[[], T]) -> T:
    """NATS and a copy of the letters: not in the event loop that answers health checks."""
    return await to_thread.run_sync(work)
