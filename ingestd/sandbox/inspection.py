"""``/_sandbox/…``: look at what arrived, start over, order faults.

Joined to the routes by ``sandbox/server.py``.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
from aiohttp import web

from ingestd.sandbox.apis.notifications import Notifications
from ingestd.sandbox.control.plane import ControlPlane
from ingestd.sandbox.faults import Fault, Rule, parse_faults, parse_script
from ingestd.sandbox.stats import Stats

_SLICE = 1_000
"""Events written at once."""

_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")  # between tokens only: JSON strings hold neither


class Inspected(Protocol):
    """What can be looked at and changed of a sandbox; ``server.Sandbox``."""

    @property
    def control(self) -> ControlPlane: ...

    @property
    def notifications(self) -> Notifications: ...

    def kept(self, path: str = ...) -> Sequence[bytes]:
        """Events that arrived, the oldest first; of one path, or of all."""
        ...

    def stats(self) -> Stats:
        """Counts for each path."""
        ...

    def reset(self) -> None:
        """Forget all that arrived, and begin the faults again."""
        ...

    def set_faults(self, faults: Sequence[Fault], rules: Sequence[Rule]) -> None:
        """Replace all faults and the script."""
        ...


def routes(sandbox: Inspected) -> Sequence[web.RouteDef]:
    """``GET`` events, stats, control; ``POST`` reset, faults. No login is needed."""

    async def events(request: web.Request) -> web.StreamResponse:
        """NDJSON of the kept events in the order they were taken, from ``offset``, at most ``limit``.

        ``path``: of which API, as ``/api/v2/events/ingest`` (the default); see ``paths`` of the stats.
        """
        path = request.query.get("path")
        kept = sandbox.kept() if path is None else sandbox.kept(path)
        try:
            offset = _count(request.query.get("offset", "0"))
            end = offset + _count(request.query.get("limit", str(len(kept))))
        except ValueError as reason:
            return _json({"message": str(reason)}, status=400)
        end = min(end, len(kept))  # what arrives while this is written does not prolong it
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for start in range(offset, end, _SLICE):
            lines = [event.translate(_ONE_LINE) for event in kept[start : min(start + _SLICE, end)]]
            await response.write(b"\n".join(lines) + b"\n")
        await response.write_eof()
        return response

    async def stats(_request: web.Request) -> web.Response:
        return _json(sandbox.stats())

    async def resources(_request: web.Request) -> web.Response:
        """What the control plane has, by kind; no credentials."""
        return _json(sandbox.control.shown())

    async def reset(_request: web.Request) -> web.Response:
        sandbox.reset()
        return _json({"status": "reset"})

    async def faults(request: web.Request) -> web.Response:
        """``["429:0.05"]`` or ``{"faults":["429:0.05"],"script":[…]}``; what is left out is none."""
        try:
            wanted = _read_faults(await request.read())
            parsed, rules = parse_faults(wanted.faults), parse_script(wanted.script)
        except ValueError as reason:
            return _json({"message": str(reason)}, status=400)
        sandbox.set_faults(parsed, rules)
        return _json({"status": "set", "faults": len(parsed), "rules": len(rules)})

    return [
        *_notifications(sandbox),
        web.get("/_sandbox/events", events),
        web.get("/_sandbox/stats", stats),
        web.get("/_sandbox/control", resources),
        web.post("/_sandbox/reset", reset),
        web.post("/_sandbox/faults", faults),
    ]


def _notifications(sandbox: Inspected) -> Sequence[web.RouteDef]:
    """Look at channels, send an event, announce the end of all WebSockets, cut them."""

    async def channels(_request: web.Request) -> web.Response:
        return _json(sandbox.notifications.shown)

    async def emit(request: web.Request) -> web.Response:
        """``{"topicName": …, "eventBody": …}``; the rest of the envelope is made where it is missing."""
        try:
            message = msgspec.json.decode(await request.read(), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
            return _json({"message": f"not a notification: {str(reason)[:200]}"}, status=400)
        return _json({"sent": await sandbox.notifications.emit(message)})

    async def closing(_request: web.Request) -> web.Response:
        return _json({"told": await sandbox.notifications.announce_closing()})

    async def cut(_request: web.Request) -> web.Response:
        return _json({"cut": sandbox.notifications.cut()})

    return [
        web.get("/_sandbox/notifications", channels),
        web.post("/_sandbox/notifications", emit),
        web.post("/_sandbox/notifications/closing", closing),
        web.post("/_sandbox/notifications/cut", cut),
    ]


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    faults: list[str] = []
    script: msgspec.Raw = msgspec.Raw(b"[]")


def _read_faults(body: bytes) -> _Wanted:
    try:
        if body.lstrip()[:1] == b"[":
            return _Wanted(msgspec.json.decode(body, type=list[str]))
        return msgspec.json.decode(body, type=_Wanted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        raise ValueError(f"faults cannot be read: {str(reason)[:200]}") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ValueError("offset and limit are whole numbers")
    return int(text)


def _json(content: Any, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(content), content_type="application/json")
