"""The admin address of a supervisor: it asks the processes of this machine, and sums what they say."""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from ingestd import __version__
from ingestd.admin.server import metrics_page, serve_pages
from ingestd.app.cluster.board import Board
from ingestd.app.cluster.judgement import open_connection
from ingestd.app.cluster.kept_counts import Carried, KeptCounts
from ingestd.app.cluster.machine_view import MachineView, ProcessStatus, SpoolFigures, merged
from ingestd.app.event_loop import run_loop
from ingestd.cluster.names import StreamNames
from ingestd.cluster.parked_sinks import read_parked
from ingestd.config import Settings, find_state_directory
from ingestd.core.clock import Clock, SystemClock
from ingestd.core.errors import UserError
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import JetStreamError
from ingestd.telemetry.audit_file import AuditLog
from ingestd.telemetry.cluster_metrics import OUTCOMES
from ingestd.telemetry.summed_metrics import Summed, SumOfMetrics
from ingestd.wiring.factories import open_audit

_ASKED = ("edge", "worker")
_ASK_S = 2.0
_SILENT_S = 15.0
"""The supervisor turns twice a second."""
_MOST_BYTES = 16 * 1024**2
_LOOK_S = 2.0
"""How often all processes, and NATS, are asked for what top and the console show."""


class ShownProcess(msgspec.Struct, frozen=True):
    """``place``: on the board."""

    name: str
    kind: str
    place: int


def serve(
    sockets: Sequence[socket.socket],
    board: Board,
    processes: Sequence[ShownProcess],
    load: Callable[[], Settings],
    settings: Settings,
    kept: KeptCounts,
) -> int:
    """Until SIGTERM; the exit code. Raises UserError for console tokens that cannot be read."""
    from ingestd.app.cluster.machine_model import pages_of  # the other processes need nothing of it
    from ingestd.app.cluster.tap_hub import TapHub

    clock, directory = SystemClock(), find_state_directory(settings)
    audit = open_audit(settings.audit, directory, rotates=False)
    carried = kept.read() or Carried(clock.wall(), clock.monotonic())
    view = MachineView(clock, str(directory), started=carried.started, counts=carried.counts)
    keep = partial(kept.write, carried)
    overview = MachineOverview(board, processes, clock, carried, keep)
    tap = TapHub(settings, overview.edges_and_workers, clock)
    more = pages_of(load, settings, view, workers=overview.workers, tap=tap, clock=clock, audit=audit)

    async def session() -> int:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with open_overview(sockets, overview, more), anyio.create_task_group() as tasks:
                tasks.start_soon(_watch, overview, view, settings, audit)
                tasks.start_soon(tap.run)
                async for _ in signals:
                    break
                tasks.cancel_scope.cancel()
        return 0

    try:
        return run_loop(session)
    finally:
        audit.close()


async def _watch(overview: "MachineOverview", view: MachineView, settings: Settings, audit: AuditLog) -> None:
    """What top and the console show is asked before somebody looks, for its rates."""
    spool = SpoolFigures()
    while True:
        spool = await _figures(settings) or spool
        view.note(*await overview.look(), spool)
        overview.keep()
        audit.flush()
        await SystemClock.sleep(_LOOK_S)


async def _figures(settings: Settings) -> SpoolFigures | None:
    """None: the server does not answer now."""
    names = StreamNames(settings.spool.name)
    try:
        async with open_connection(settings) as connection:
            stream = await connection.ask(f"STREAM.INFO.{names.events}")
            letters = (await connection.ask(f"STREAM.INFO.{names.dead}"))["state"]
            parked = {sink: one.at for sink, one in (await read_parked(connection, names)).items()}
    except (BrokerAway, JetStreamError, UserError):
        return None
    held, most = int(stream["state"]["bytes"]), int(stream["config"]["max_bytes"])
    return SpoolFigures(held, most, int(letters.get("num_subjects", 0)), parked)


@asynccontextmanager
async def open_overview(
    sockets: Sequence[socket.socket], overview: "MachineOverview", more: Sequence[web.RouteDef] = ()
) -> AsyncIterator[None]:
    """``more``: pages of the console."""
    routes = [
        *more,
        web.get("/metrics", overview.metrics),
        web.get("/healthz", overview.health),
        web.get("/readyz", overview.ready),
        web.get("/v1/status", overview.status),
    ]
    async with serve_pages({}, "", 0, what="the admin address", more=routes, sockets=sockets):
        yield


class MachineOverview:
    """``keep`` writes down what is ``carried`` on, if this process dies."""

    def __init__(
        self,
        board: Board,
        processes: Sequence[ShownProcess],
        clock: Clock,
        carried: Carried,
        keep: Callable[[], None],
    ) -> None:
        self._board = board
        self._processes = processes
        self._clock = clock
        self._started = carried.started_s
        self._sums = SumOfMetrics(carried.sums)
        self.keep = keep
        self._why: dict[str, str] = {}
        """By sink: why it takes nothing, as workers said last."""

    def edges_and_workers(self) -> dict[str, int]:
        """Process ids by name; 0: it does not run now."""
        return {one.name: self._board.read(one.place)[0] for one in self._processes if one.kind in _ASKED}

    def workers(self) -> dict[int, str]:
        """Names of those that live, by process id."""
        found = [(one, self._board.read(one.place)[0]) for one in self._processes if one.kind == "worker"]
        return {pid: one.name for one, pid in found if pid}

    async def metrics(self, request: web.Request) -> web.Response:
        answers = await self._ask_all("/metrics")
        texts = {(one.name, self._board.read(one.place)[2]): text for one, _, text in answers if text}
        families = self._sums.add_up(texts, ready=not self._reasons(await self._ask_all("/readyz")))
        self.keep()
        registry = CollectorRegistry()
        registry.register(Summed(families))
        return metrics_page(registry)(request)

    async def look(self) -> tuple[list[ProcessStatus], list[str]]:
        """What all processes say of themselves, and why producers should not send here."""
        answers = await self._ask_all("/v1/status")
        statuses = [
            ProcessStatus(one.name, one.kind, starts, _object(text))
            for one, (_, _, starts), text in answers
            if one.kind in _ASKED
        ]
        self._why = {
            sink["name"]: sink["why"]
            for one in statuses
            for sink in one.status.get("sinks", ())
            if sink.get("why")
        }
        return statuses, self._reasons(answers)

    async def health(self, request: web.Request) -> web.Response:
        del request
        silent_s = self._clock.monotonic() - self._board.last_beat
        if silent_s > _SILENT_S:
            return web.Response(text=f"the supervisor stands still for {silent_s:.0f} s\n", status=503)
        for one, (_, port, _), text in await self._ask_all("/healthz"):
            if one.kind in _ASKED and port and text != "ok\n":
                message = text.strip() or "it does not answer"
                return web.Response(text=f"{one.name}: {message}\n", status=503)
        return web.Response(text="ok\n")

    async def ready(self, request: web.Request) -> web.Response:
        del request
        reasons = self._reasons(await self._ask_all("/readyz"))
        body = {"ready": False, "reasons": reasons} if reasons else {"ready": True}
        return _json(body, status=503 if reasons else 200)

    async def status(self, request: web.Request) -> web.Response:
        del request
        reasons = self._reasons(await self._ask_all("/readyz"))
        parts: list[dict[str, Any]] = []
        shares: list[dict[str, Any]] = []
        status: dict[str, Any] = {}
        for one, (pid, _, starts), text in await self._ask_all("/v1/status"):
            part: dict[str, Any] = {"name": one.name, "kind": one.kind, "pid": pid or None}
            part["restarts"] = max(0, starts - 1)
            if text:
                status = json.loads(text)
                shares += status.get("shares", [])
                part["status"] = status
            parts.append(part)
        summed = {
            "version": __version__,
            "kind": "supervisor",
            "uptime_seconds": round(self._clock.monotonic() - self._started, 1),
            "ready": not reasons,
            "reasons": reasons,
            "sinks": _by_sink(shares),
            "refused": merged([one for part in parts for one in part.get("status", {}).get("refused", ())]),
            "processes": parts,
        }
        return _json(summed)

    def _reasons(self, answers: "Sequence[_Answer]") -> list[str]:
        """Why producers should not send here: of broker, edges and workers one each must be ready, and the
        stream, which all edges share, has room."""
        if full := next(filter(None, (_full(text) for one, _, text in answers if one.kind == "edge")), ""):
            why = next((why for sink, why in self._why.items() if full.endswith(f" wait for {sink}")), "")
            return [f"{full}: {why}" if why else full]
        reasons = []
        for kind in ("broker", "edge", "worker"):
            mine = [(one, found, text) for one, found, text in answers if one.kind == kind]
            if kind == "broker":
                good = any(found[1] for _, found, _ in mine)
            else:
                good = any('"ready": true' in text for _, _, text in mine)
            if not good:
                message = next((_first_reason(text) for _, _, text in mine if text), "it does not run")
                reasons.append(f"{kind}: {message}")
        return reasons

    async def _ask_all(self, path: str) -> "list[_Answer]":
        """Of each process what it answers; "": nothing."""
        found = [(one, self._board.read(one.place)) for one in self._processes]
        asked = [
            self._ask(port, path) if one.kind in _ASKED and port else _nothing()
            for one, (_, port, _) in found
        ]
        texts = await asyncio.gather(*asked)
        return [(one, place, text) for (one, place), text in zip(found, texts, strict=True)]

    async def _ask(self, port: int, path: str) -> str:
        try:
            async with self._clock.timeout(_ASK_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
                    answer = b""
                    while (more := await reader.read(64 * 1024)) and len(answer) < _MOST_BYTES:
                        answer += more
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return ""
        return answer.partition(b"\r\n\r\n")[2].decode(errors="replace")


_Answer = tuple[ShownProcess, tuple[int, int, int], str]


async def _nothing() -> str:
    return ""


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _full(text: str) -> str:
    """What an edge says of a stream that has no room; empty: nothing."""
    full = _object(text).get("full")
    return f"spool: {full}" if full else ""


def _first_reason(text: str) -> str:
    try:
        return str(json.loads(text)["reasons"][0])
    except (ValueError, LookupError, TypeError):
        return "it does not answer"


def _by_sink(shares: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The ledgers of all shares that have an owner now."""
    ledgers: dict[str, dict[str, int]] = {}
    for share in shares:
        ledger = ledgers.setdefault(share["sink"], dict.fromkeys(("accepted", *OUTCOMES, "in_flight"), 0))
        for name in ledger:
            ledger[name] += share["ledger"].get(name, 0)
    return [{"name": name, "ledger": ledgers[name]} for name in sorted(ledgers)]


def _json(body: dict[str, Any], *, status: int = 200) -> web.Response:
    text = json.dumps(body, indent=2, default=str) + "\n"
    return web.Response(text=text, status=status, content_type="application/json")
