"""A data lake: gathers the outbox's events into loads, writes their files, tells who wants to know.

Nothing here is waited for by the way an event takes to its API: what comes from there is in the outbox
(``store/outbox.py``), on disk, and stays there until the files that hold it are whole.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module

from ingestd.core.backoff import Backoff
from ingestd.core.clock import Clock, SystemClock, system_rng, ungrouped, wait_until_set
from ingestd.core.errors import UserError
from ingestd.lake.callback import Callback
from ingestd.lake.file_format import EncodedFile
from ingestd.lake.file_writer import LakeFileWriter, ObjectStore, WriteFailure, Written
from ingestd.sinks.lake import LakeLayout
from ingestd.store.connection import StoreFailed
from ingestd.store.database import Database
from ingestd.store.outbox import Outbox, OutboxTotals, OutboxUnreadable
from ingestd.store.outbox_rows import OutboxDelivery
from ingestd.telemetry.audit_entry import Audit, AuditEntry, no_audit
from ingestd.telemetry.state_watch import StateWatch

Warn = Callable[[str], None]

BACKOFF = Backoff(base_s=1.0, cap_s=60.0)
PAUSE_S = 15.0
"""At least this long between attempts while settings or permissions stand in the way."""
_LOOK_AGAIN_S = 1.0
_NOT_YET_S = 0.05
"""Events were added whose transaction is still on its way."""
_AUDIT_SLICE = 100


class Lake:
    """``outbox.add`` brings events in. ``run`` until cancelled; then, or beside it, ``drain``.

    Gauges: ``outbox.events``, ``outbox.bytes``, ``outbox.skipped_events``, ``outbox.damaged_events``,
    ``files_written``, ``events_written``, ``failures`` (attempts of a load that failed),
    ``oldest_age_s``, and ``callback`` has its own.
    """

    def __init__(
        self,
        outbox: Outbox,
        store: ObjectStore,
        *,
        layout: LakeLayout,
        file_bytes: int,
        file_age_s: float,
        callback: Callback | None,
        audit: Audit,
        states: StateWatch,
        clock: Clock,
        rng: random.Random,
        backoff: Backoff,
        max_in_flight: int,
    ) -> None:
        self.outbox = outbox
        self.callback = callback
        self.files_written = self.events_written = self.failures = 0
        self.problem = ""
        """Why nothing can be written now; empty: it can."""
        self._store = store
        self._layout = layout.encode()
        self._file_bytes = file_bytes
        self._file_age_s = file_age_s
        self._audit = audit
        self._states = states
        self._clock = clock
        self._backoff = backoff
        self._attempts = 0
        self._random = rng
        self._turns = asyncio.Lock()
        self._draining = asyncio.Event()
        self._writer = LakeFileWriter(outbox, store, max_in_flight=max_in_flight, on_file=self._file_written)

    @property
    def oldest_age_s(self) -> float:
        """Of the oldest event that is not in the lake; 0 if all are."""
        outbox, now = self.outbox, self._clock.wall()
        if outbox.oldest_at is None:
            return 0.0
        outbox.oldest_at = min(outbox.oldest_at, now)  # a clock that was ahead: it counts from now on
        return now - outbox.oldest_at

    async def run(self) -> None:
        """Write files as they become due, until cancelled; ``drain`` takes over. Raises StoreFailed."""
        with ungrouped(StoreFailed):
            async with asyncio.TaskGroup() as tasks:
                if self.callback:
                    tasks.create_task(self.callback.run(), name=f"callback of {self.outbox.sink_name}")
                await self._write_what_is_due()

    async def drain(self, timeout_s: float) -> OutboxTotals:
        """Write all that is there, whether due or not, trying each thing once. Gives what is left: it stays
        in the outbox for the next process. Raises StoreFailed."""
        self._draining.set()
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(timeout_s):
                while self.outbox.rows:
                    wait_s = await self._turn()
                    if self.problem:
                        break
                    await self._clock.sleep(wait_s)
                if self.callback:
                    await self.callback.drain()
        return self.outbox.stock

    async def _write_what_is_due(self) -> None:
        while not self._draining.is_set():
            if self._is_due():
                if wait_s := await self._turn():
                    await wait_until_set(self._draining, wait_s, self._clock)
            else:
                self.outbox.news.clear()
                await wait_until_set(self.outbox.news, min(_LOOK_AGAIN_S, self._until_due_s()), self._clock)

    def _is_due(self) -> bool:
        outbox = self.outbox
        if outbox.load is not None or outbox.bytes >= self._file_bytes:
            return True
        return outbox.oldest_at is not None and self._until_due_s() <= 0

    def _until_due_s(self) -> float:
        return self._file_age_s - self.oldest_age_s

    async def _turn(self) -> float:
        """One attempt to write one load. Gives the seconds to wait before the next."""
        async with self._turns:
            try:
                load = await self.outbox.cut(max_bytes=self._file_bytes, layout=self._layout)
                if load is None:
                    return _NOT_YET_S
                result = await self._writer.write(load)
                if isinstance(result, WriteFailure):
                    return self._failed(result)
                await self.outbox.finish(load, result.rows)
            except OutboxUnreadable as error:
                return self._failed(WriteFailure(str(error), lasting=True))
        self._attempts = 0
        self.problem = ""
        words = f"{self._store.shown_url} can be written again"
        self._states.recovered(self.outbox.sink_name, "written", words, entry=AuditEntry.DATA_LAKE_SYNC)
        await self._report_written(result)
        return 0.0

    def _failed(self, failure: WriteFailure) -> float:
        self.failures += 1
        self._attempts += 1
        url = self._store.shown_url
        self._states.degraded(
            self.outbox.sink_name,
            "waiting",
            failure.why,
            what=f"{url} cannot be written, its events wait",
            waiting=lambda: f"{self.outbox.events:,} of them",
            entry=AuditEntry.DATA_LAKE_SYNC,
            sync_status="waiting",
            target=url,
        )
        self.problem = failure.why
        at_least_s = PAUSE_S if failure.lasting else None
        return self._backoff.delay(self._attempts, at_least_s=at_least_s, rng=self._random)

    def _file_written(self, file: EncodedFile, events: int) -> None:
        self.files_written += 1
        self.events_written += events
        if self.callback:
            self.callback.notify(file.name, file.manifest)

    async def _report_written(self, written: Written) -> None:
        """One line for each request whose events are in the lake now; one for all that were accepted."""
        requests = [row for row in written.rows if row.request_id]
        accepted = sum(len(row.events) for row in written.rows if not row.request_id)
        for index, row in enumerate(requests):
            self._note_request(row)
            if index % _AUDIT_SLICE == _AUDIT_SLICE - 1:
                await self._clock.sleep(0)  # small batches come by the thousands
        if accepted:
            self._note(events=accepted, files=written.files)

    def _note_request(self, row: OutboxDelivery) -> None:
        self._note(
            request_id=row.request_id, latency_ms=round(row.latency_s * 1000, 1), events=len(row.events)
        )

    def _note(self, **fields: str | int | float | None) -> None:
        self._audit(
            AuditEntry.DATA_LAKE_SYNC,
            sink=self.outbox.sink_name,
            sync_status="written",
            target=self._store.shown_url,
            **fields,
        )


@asynccontextmanager
async def open_lake(
    database: Database,
    store: ObjectStore,
    *,
    name: str,
    layout: LakeLayout,
    file_bytes: int,
    file_age_s: float,
    max_backlog_bytes: int,
    warn: Warn,
    callback: Callback | None = None,
    audit: Audit = no_audit,
    states: StateWatch | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    backoff: Backoff = BACKOFF,
    max_in_flight: int = 4,
) -> AsyncIterator[Lake]:
    """A lake on an open database, with what an earlier process left in its outbox.

    ``file_bytes``: of events that are written together, split over the folders they belong to: no file has
    more, and this is what memory must hold. A store that cannot be used is logged, and tried again with each
    load. Raises UserError for Parquet without pyarrow, StoreFailed.
    """
    if layout.format == "parquet":
        await asyncio.to_thread(_need_pyarrow)
    try:
        await store.open()
    except UserError as error:  # a disk that is not there today must not stop what goes elsewhere
        warn(f"lake {name}: its events wait: {error}")
    clock = clock or SystemClock()
    outbox = Outbox(
        database, name, max_bytes=max_backlog_bytes, news_bytes=file_bytes, warn=warn, clock=clock
    )
    await outbox.open()
    try:
        yield Lake(
            outbox,
            store,
            layout=layout,
            file_bytes=file_bytes,
            file_age_s=file_age_s,
            callback=callback,
            audit=audit,
            states=states or StateWatch(warn, clock, audit=audit),
            clock=clock,
            rng=rng or system_rng(),
            backoff=backoff,
            max_in_flight=max_in_flight,
        )
    finally:
        await store.aclose()


def _need_pyarrow() -> None:
    try:
        import_module("pyarrow.parquet")
    except ImportError:
        raise UserError("format = 'parquet' needs pyarrow: pip install 'ingestd[lake]'") from None
