"""The console's contract (``admin/read_model.py``), of a running service."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import msgspec

from ingestd.admin.read_model import Changed, Charts, LetterQuery, Overview
from ingestd.app import spool
from ingestd.app.console import letters, overview, where
from ingestd.app.service_parts import Service
from ingestd.app.status import describe
from ingestd.config import ConfigFile
from ingestd.config.show import lines
from ingestd.core.errors import NotFound, UserError
from ingestd.core.json_path import Path
from ingestd.core.redaction import redact_tree
from ingestd.core.toml import spell
from ingestd.intake.parking import BY_PERSON
from ingestd.processing.event_filter import event_filter
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.tap import WHAT, TapReader, mask_text

PARKED = "it is parked: nothing is sent until it is resumed"


class ServiceModel:
    """``ReadModel`` and ``Actions``."""

    def __init__(self, service: Service) -> None:
        self._service = service

    # --- to read ---

    def overview(self) -> Overview:
        return overview.overview(self._opened())

    def charts(self) -> Charts:
        return overview.charts(self._opened())

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = redact_tree(describe(self._service))
        return found

    def configuration(self) -> dict[str, Any]:
        """``file``, ``read_at``, and ``settings``: (name, value, origin) of each, secrets masked."""
        service = self._service
        load, rows = service.load, list[tuple[str, str, str]]()
        origins = load.origins if isinstance(load, ConfigFile) else {}
        for place, value, origin in lines(service.settings, origins):
            rows.append((".".join(place), "not set" if value is None else spell(value), str(origin)))
        return {
            "file": load.path if isinstance(load, ConfigFile) else None,
            "read_at": service.own_metrics.reloads.last_success,
            "settings": rows,
        }

    def refusals(self) -> list[dict[str, Any]]:
        """The last ones, latest first."""
        return [msgspec.to_builtins(one) for one in reversed(self._opened().refusals.recent)]

    def tap(self, *, sink: str, what: str, when: str) -> AbstractContextManager[TapReader]:
        service = self._opened()
        if sink and sink not in {runner.name for runner in service.pipeline.runners}:
            raise NotFound(f"there is no sink {sink}")
        if what and what not in WHAT:
            raise UserError(f"there is no {what}: choose one of {', '.join(WHAT)}")
        return service.trace.tap.listen(sink=sink, what=what, matches=event_filter(when) if when else None)

    @property
    def redacts(self) -> bool:
        return bool(self._opened().trace.tap.redact_paths)

    def redact(self, shown: dict[str, Any]) -> dict[str, Any]:
        paths = self._opened().trace.tap.redact_paths
        return redacted(shown, paths) if paths else shown

    async def letters(self, query: LetterQuery, *, limit: int) -> dict[str, Any]:
        return await letters.find(self._opened(), query, limit=limit)

    async def export(
        self, query: LetterQuery, *, after: int, limit: int, now: float | None
    ) -> tuple[list[dict[str, Any]], float]:
        now = self._service.clock.wall() if now is None else now
        return await letters.page(self._opened(), query, after=after, limit=limit, now=now), now

    async def damaged(self, query: LetterQuery, *, now: float) -> tuple[int, list[int]]:
        return await letters.damaged(self._opened(), query, now=now)

    async def groups(self, query: LetterQuery) -> list[dict[str, Any]]:
        return await letters.groups(self._opened(), query)

    async def letter(self, number: int) -> dict[str, Any]:
        return await letters.get(self._opened(), number)

    async def where(self, key: str) -> dict[str, Any]:
        if not key.strip():
            raise UserError("give the key of an event, the event itself, or the id of a request")
        return await where.where(self._opened(), key.strip())

    def check(self, payload: bytes) -> list[str]:
        return letters.check(self._opened(), payload)

    # --- to change ---

    async def probe(self, sink: str, *, who: str) -> Changed:
        for runner in self._opened().pipeline.runners:
            if runner.name == sink:
                self._service.pipeline.audit(AuditEntry.SINK_PROBED, sink=sink, who=who)
                if runner.parked == BY_PERSON:
                    return Changed(dry_run=False, selected=1, changed=0, words=[PARKED])
                probing = runner.lane.probe_now()
                words = probe_words(probing=probing, is_out=runner.lane.active > 0)
                return Changed(dry_run=False, selected=1, changed=int(probing), words=[words])
        raise NotFound(f"there is no sink {sink}")

    async def retry(self, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
        return await letters.mark(self._opened(), query, who=who, dry_run=dry_run)

    async def correct(self, query: LetterQuery, expression: str, *, who: str, dry_run: bool) -> Changed:
        if not expression.strip():
            raise UserError("give an expression of jq")
        return await letters.mark(self._opened(), query, who=who, expression=expression, dry_run=dry_run)

    async def park_letters(self, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
        return await letters.park(self._opened(), query, who=who, dry_run=dry_run)

    async def park(self, sink: str, *, who: str, on: bool) -> Changed:
        directory = str(self._opened().pipeline.database.path.parent)
        from anyio import to_thread

        done = await to_thread.run_sync(partial(spool.park, directory, sink, on=on, who=who))
        await self._service.ingest.parking.look()  # not a second later: what is said is true
        out = sum(runner.lane.active for runner in self._service.pipeline.runners if runner.name == sink)
        state = "parked: nothing is sent to it" if on else "not parked any more"
        still = f", but for {out} requests that are out" if on and out else ""
        return Changed(
            dry_run=False, selected=1, changed=int(done.changed), words=[f"{sink} is {state}{still}"]
        )

    async def edit(self, number: int, payload: bytes, *, who: str) -> Changed:
        return await letters.mark(self._opened(), {"ids": [number]}, who=who, payload=payload)

    async def purge(self, query: LetterQuery, *, who: str, dry_run: bool) -> Changed:
        return await letters.delete(self._opened(), query, who=who, dry_run=dry_run)

    def _opened(self) -> Service:
        """Raises UserError while it is starting."""
        if not self._service.opened:
            raise UserError("the service is starting: try again in a moment")
        return self._service


def probe_words(*, probing: bool, is_out: bool) -> str:
    """``probing``: sending had stopped until the next try; ``is_out``: which is on its way already."""
    if not probing:
        return "it is not paused: nothing to probe"
    return "a request is out already: its answer decides" if is_out else "the next request goes out now"


def redacted(shown: dict[str, Any], paths: Sequence[Path]) -> dict[str, Any]:
    """What an API or the schema said of an event may repeat what is in it."""
    left = {name: value for name, value in shown.items() if name != "payload_base64"}
    for name in {"detail", "cause", "error"} & left.keys():
        left[name] = "not shown: it may hold what admin.redact names"
    if "what" in left and left.get("why"):  # a step of an event
        left["why"] = f"{left['why'].partition(':')[0]}: not shown"
    if "values" in left:
        left["values"] = []
    if "payload" in left:
        left["payload"] = mask_text(left["payload"], paths)
    for name in {"letters", "attempts", "steps", "timeline"} & left.keys():
        if isinstance(left[name], list):  # of a letter it is how many
            left[name] = [redacted(one, paths) for one in left[name]]
    return left
