"""The JSON API of the admin address: what the console shows and does, for programs; see ``openapi.py``."""

# isort: split
from ingestd.transport import late_authorities as late_authorities  # before aiohttp

# isort: split
import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from aiohttp import web

from ingestd.admin.access import Access
from ingestd.admin.openapi import document
from ingestd.admin.read_model import Actions, LetterQuery, ReadModel
from ingestd.admin.requests import (
    MAX_LETTERS,
    PAGE_LETTERS,
    QUERY_FIELDS,
    Handler,
    NotAllowed,
    is_chosen,
    letter_query,
    letters_asked,
    letting_see,
    may_change,
    may_look,
    read_body,
    read_json,
    visitor_of,
)
from ingestd.core.errors import Busy, NotFound, UserError

EXPORT_LETTERS = 500
"""That are read at once."""
DAMAGED, DAMAGED_LETTERS = "Ingestd-Damaged", "Ingestd-Damaged-Letters"
"""Headers of an export: how many payloads are damaged on disk, and of which letters, the first of them."""
ChangeHandler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]
"""With the name of the visitor."""


class Api:
    """Routes under ``/v1/``. Errors are ``{"error": words}``."""

    def __init__(self, model: ReadModel, actions: Actions, access: Access) -> None:
        self._model, self._actions, self._access = model, actions, access

    def routes(self) -> list[web.RouteDef]:
        gets = {
            "/v1/overview": self._overview,
            "/v1/charts": self._charts,
            "/v1/letters": self._letters,
            "/v1/letters/export": self._export,
            "/v1/letters/groups": self._groups,
            "/v1/letters/{number:[0-9]{1,15}}": self._letter,
            "/v1/producers": self._producers,
            "/v1/where": self._where,
            "/v1/tap": self._tap,
            "/v1/openapi.json": self._openapi,
        }
        streams = (self._tap, self._export)  # their answers have no end that a HEAD could tell
        posts = {
            "/v1/sinks/{name}/probe": self._probe,
            "/v1/sinks/{name}/park": self._park,
            "/v1/sinks/{name}/resume": self._park,
            "/v1/letters/retry": self._retry,
            "/v1/letters/park": self._park_letters,
            "/v1/letters/purge": self._purge,
            "/v1/letters/{number:[0-9]{1,15}}/edit": self._edit,
        }
        return [
            web.post("/v1/where", self._looking(self._where)),
            *(
                web.get(path, self._looking(handler), allow_head=handler not in streams)
                for path, handler in gets.items()
            ),
            *(web.post(path, self._changing(handler)) for path, handler in posts.items()),
        ]

    def _looking(self, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                may_look(request, self._access)
                return await handler(request)
            except NotAllowed as error:
                return not_allowed(error)
            except NotFound as error:
                return problem(404, str(error))
            except Busy as error:
                return problem(503, str(error))
            except (UserError, ValueError) as error:
                return problem(400, str(error))

        return handle

    def _changing(self, handler: ChangeHandler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request, may_change(request, self._access).name)
            except NotAllowed as error:
                return not_allowed(error)
            except NotFound as error:
                return problem(404, str(error))
            except (UserError, ValueError) as error:
                return problem(400, str(error))

        return handle

    # --- to read ---

    async def _overview(self, request: web.Request) -> web.Response:
        return answer(self._model.overview())

    async def _charts(self, request: web.Request) -> web.Response:
        return answer(self._model.charts())

    async def _letters(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", PAGE_LETTERS))
        if not 0 <= limit <= MAX_LETTERS:
            raise ValueError(f"limit is 0 to {MAX_LETTERS}")
        query = letters_asked(request.query, visitor_of(request, self._access), self._model)
        found = await self._model.letters(query, limit=limit)
        found["letters"] = self._letting_see(request, found["letters"])
        return answer(found)

    def _letting_see(self, request: web.Request, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return letting_see(visitor_of(request, self._access), self._model, shown)

    async def _groups(self, request: web.Request) -> web.Response:
        query = letters_asked(request.query, visitor_of(request, self._access), self._model)
        found = await self._model.groups(query)
        return answer({"groups": self._letting_see(request, found)})

    async def _export(self, request: web.Request) -> web.StreamResponse:
        """JSON lines: events as they came, as `ingestd replay` reads them, or with ``whole`` all of a letter.
        Read in pages, so that nothing waits for a slow download, however many there are. A payload that is
        damaged on disk is no event: it is left out, and told in headers and in the name of the file."""
        visitor = visitor_of(request, self._access)
        query = letters_asked(request.query, visitor, self._model)
        whole = request.query.get("whole", "") not in ("", "false")
        page, now = await self._model.export(query, after=0, limit=EXPORT_LETTERS, now=None)
        damaged, first = await self._model.damaged(query, now=now)
        response = web.StreamResponse(headers=_export_headers(damaged, first, whole=whole))
        await response.prepare(request)
        with suppress(ConnectionError):
            while page:
                shown = letting_see(visitor, self._model, page)
                lines = [_line(one, whole=whole) for one in shown if whole or one["intact"]]
                await response.write(b"".join(lines))
                after = page[-1]["id"]
                page, now = await self._model.export(query, after=after, limit=EXPORT_LETTERS, now=now)
            await response.write_eof()
        return response

    async def _letter(self, request: web.Request) -> web.Response:
        letter = await self._model.letter(int(request.match_info["number"]))
        return answer(self._letting_see(request, [letter])[0])

    async def _producers(self, request: web.Request) -> web.Response:
        return answer({"producers": self._model.overview()["producers"], "refusals": self._model.refusals()})

    async def _where(self, request: web.Request) -> web.Response:
        """GET, or POST of ``{"key": …}`` for what is too long for an address."""
        given = await read_json(request) if request.method == "POST" else request.query
        key = given.get("key", "") if isinstance(given, Mapping) else None
        if not isinstance(key, str):
            raise ValueError("key is text")
        return answer(self._letting_see(request, [await self._model.where(key)])[0])

    async def _tap(self, request: web.Request) -> web.StreamResponse:
        """JSON lines, until there were ``limit`` of them or the client has gone."""
        query = request.query
        limit = int(query.get("limit", 0))
        wanted = {name: query.get(name, "") for name in ("sink", "what", "when")}
        with self._model.tap(**wanted) as listener:
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            async for entries in listener.lines(limit):
                if request.transport is None or request.transport.is_closing():
                    break  # nobody looks any more: the place is free again, also when no event comes
                lines = [json.dumps(one, ensure_ascii=False) for one in entries]
                with suppress(ConnectionError):  # gone meanwhile: seen at the next turn
                    await response.write("".join(f"{line}\n" for line in lines).encode())
            with suppress(ConnectionError):
                await response.write_eof()
        return response

    async def _openapi(self, request: web.Request) -> web.Response:
        return answer(document())

    # --- to change ---

    async def _probe(self, request: web.Request, who: str) -> web.Response:
        return answer(await self._actions.probe(request.match_info["name"], who=who))

    async def _park(self, request: web.Request, who: str) -> web.Response:
        on = request.path.endswith("/park")
        return answer(await self._actions.park(request.match_info["name"], who=who, on=on))

    async def _retry(self, request: web.Request, who: str) -> web.Response:
        query, dry_run = await _chosen(request)
        return answer(await self._actions.retry(query, who=who, dry_run=dry_run))

    async def _park_letters(self, request: web.Request, who: str) -> web.Response:
        query, dry_run = await _chosen(request)
        return answer(await self._actions.park_letters(query, who=who, dry_run=dry_run))

    async def _purge(self, request: web.Request, who: str) -> web.Response:
        query, dry_run, everything = await _chosen_or_all(request)
        if not (dry_run or everything or is_chosen(query)):
            raise ValueError('nothing is chosen: give ids or a filter, or "all": true for all that wait')
        return answer(await self._actions.purge(query, who=who, dry_run=dry_run))

    async def _edit(self, request: web.Request, who: str) -> web.Response:
        payload = await read_body(request)
        if wrong := self._model.check(payload):
            return problem(422, "; ".join(wrong))
        number = int(request.match_info["number"])
        return answer(await self._actions.edit(number, payload, who=who))


async def _chosen(request: web.Request) -> tuple[LetterQuery, bool]:
    """Without ``all``, which says nothing where nothing is deleted."""
    query, dry_run, _ = await _chosen_or_all(request)
    return query, dry_run


async def _chosen_or_all(request: web.Request) -> tuple[LetterQuery, bool, bool]:
    """``{"ids": […], "sink": …, …, "dry_run": true, "all": false}``; without ``dry_run`` it is one. Raises
    ValueError."""
    given = await read_json(request)
    if not isinstance(given, dict):
        raise ValueError("an object is wanted")
    if not isinstance(everything := given.pop("all", False), bool):
        raise ValueError("all is true or false")
    dry_run, ids = given.pop("dry_run", True), given.pop("ids", None)
    words = {name: value for name, value in given.items() if isinstance(value, str)}
    if len(words) < len(given) or not isinstance(ids, list | None) or not all(map(_is_whole, ids or [])):
        raise ValueError("ids are numbers, all else is text")
    if ids == []:
        raise ValueError("ids names no letter: leave it out for all that match the rest")
    query = letter_query(words, [str(int(one)) for one in ids or []])
    if unknown := words.keys() - set(QUERY_FIELDS):
        raise ValueError(f"there is no field {', '.join(sorted(unknown))}")
    return query, dry_run is not False, everything


def _export_headers(damaged: int, first: list[int], *, whole: bool) -> dict[str, str]:
    what = f"-{damaged}-damaged" + ("" if whole else "-left-out") if damaged else ""
    headers = {
        "Content-Type": "application/x-ndjson",
        "Content-Disposition": f'attachment; filename="dead-letters{what}.ndjson"',
        DAMAGED: str(damaged),
    }
    return headers | ({DAMAGED_LETTERS: ", ".join(map(str, first))} if damaged else {})


def _line(letter: Mapping[str, Any], *, whole: bool) -> bytes:
    """Of an export. NDJSON has no line breaks in an event."""
    if whole:
        return json.dumps(letter).encode() + b"\n"
    found = b64decode(letter["payload_base64"]) if "payload_base64" in letter else None
    payload = letter.get("payload", "").encode() if found is None else found
    return payload.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def _is_whole(number: object) -> bool:
    """JSON knows one kind of number: 7.0 is 7."""
    return type(number) is int or (type(number) is float and number.is_integer())


def answer(body: Any, status: int = 200) -> web.Response:
    text = json.dumps(body, indent=2, default=str) + "\n"
    return web.Response(text=text, status=status, content_type="application/json")


def problem(status: int, words: str) -> web.Response:
    return answer({"error": words}, status)


def not_allowed(error: NotAllowed) -> web.Response:
    response = problem(403 if error.known else 401, error.words)
    if not error.known:
        response.headers["WWW-Authenticate"] = 'Bearer realm="ingestd"'
    return response
