"""The console: pages for a person, made on the server (Jinja2), kept fresh by htmx, with charts by uPlot.

Everything comes from the package: no other host is asked. What is in events is data: templates escape it, and
the content security policy lets no script run but our own files.
"""

# isort: split
from ingestd.transport import late_authorities as late_authorities  # before aiohttp

# isort: split
from collections.abc import Awaitable, Callable
from functools import cache, partial
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from multidict import MultiDict

from ingestd.admin.access import COOKIE, CSRF_FIELD, SESSION_S, Access, Role, Visitor
from ingestd.admin.format import FILTERS
from ingestd.admin.read_model import Actions, Changed, LetterQuery, ReadModel
from ingestd.admin.requests import (
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
    peer_of,
    read_form,
    visitor_of,
)
from ingestd.core.errors import Busy, NotFound, UserError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_STATIC = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}


PageHandler = Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]


Act = Callable[..., Awaitable[Changed]]


class Console:
    """Pages, and the forms on them. A form answers with a page, or for htmx with the part that changed."""

    def __init__(self, model: ReadModel, actions: Actions, access: Access) -> None:
        self._model, self._actions, self._access = model, actions, access

    def routes(self) -> list[web.RouteDef]:
        number = "{number:[0-9]{1,15}}"
        gets = {
            "/": self._overview,
            "/overview/live": self._overview_live,
            "/letters": self._letters,
            f"/letters/{number}": self._letter,
            "/where": self._where,
            "/producers": self._producers,
            "/configuration": self._configuration,
        }
        posts = {
            "/sinks/{name}/probe": self._probe,
            "/sinks/{name}/{do:park|resume}": self._park,
            "/letters/change": self._change,
            f"/letters/{number}/edit": self._edit,
        }
        return [
            *(web.get(path, self._page(handler)) for path, handler in gets.items()),
            *(web.post(path, self._page(handler)) for path, handler in posts.items()),
            web.post("/letters/check", self._page(self._check)),
            web.post("/where", self._page(self._where)),
            web.get("/login", self._page(self._login, anyone=True)),
            web.post("/login", self._page(self._log_in, anyone=True)),
            web.post("/logout", self._page(self._log_out, anyone=True)),
            web.get("/static/{name}", _static),
        ]

    def _page(self, handler: PageHandler, *, anyone: bool = False) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            response: web.StreamResponse
            visitor = Visitor(Role.NOBODY)
            try:
                visitor = visitor_of(request, self._access) if anyone else may_look(request, self._access)
                response = await handler(request, visitor)
            except NotAllowed as error:
                if not error.known:
                    response = self._show(request, visitor, "login.html", status=401, words=error.words)
                else:
                    response = self._show(request, visitor, "message.html", status=403, words=error.words)
            except NotFound as error:
                response = self._show(request, visitor, "message.html", status=404, words=str(error))
            except Busy as error:
                response = self._show(request, visitor, "message.html", status=503, words=str(error))
            except (UserError, ValueError) as error:
                response = self._show(request, visitor, "message.html", status=400, words=str(error))
            response.headers["Content-Security-Policy"] = POLICY
            response.headers["Referrer-Policy"] = "same-origin"
            return response

        return handle

    def _show(
        self, request: web.Request, visitor: Visitor, template: str, *, status: int = 200, **values: Any
    ) -> web.Response:
        body = (
            _templates()
            .get_template(template)
            .render(visitor=visitor, path=request.path, has_tokens=self._access.has_tokens, **values)
        )
        return web.Response(text=body, status=status, content_type="text/html")

    # --- to read ---

    async def _overview(self, request: web.Request, visitor: Visitor) -> web.Response:
        return self._show(request, visitor, "overview.html", it=self._model.overview())

    async def _overview_live(self, request: web.Request, visitor: Visitor) -> web.Response:
        return self._show(request, visitor, "overview_live.html", it=self._model.overview())

    async def _letters(self, request: web.Request, visitor: Visitor) -> web.Response:
        query = letters_asked(request.query, visitor, self._model)
        found = await self._model.letters(query, limit=PAGE_LETTERS)
        found["letters"] = letting_see(visitor, self._model, found["letters"])
        return self._show(
            request,
            visitor,
            "letters.html",
            query=query,
            groups=letting_see(visitor, self._model, await self._model.groups(query)),
            sinks=[sink["name"] for sink in self._model.overview()["sinks"]],
            asked=urlencode(query),
            most=PAGE_LETTERS,
            **found,
        )

    async def _letter(self, request: web.Request, visitor: Visitor) -> web.Response:
        number = int(request.match_info["number"])
        (letter,) = letting_see(visitor, self._model, [await self._model.letter(number)])
        return self._show(request, visitor, "letter.html", it=letter, pretty=_pretty(letter.get("payload")))

    async def _where(self, request: web.Request, visitor: Visitor) -> web.Response:
        """An event may be too long for an address, and nothing for the history of a browser: it is posted."""
        given = await read_form(request) if request.method == "POST" else request.query
        key = given.get("key", "").strip()
        (found,) = letting_see(visitor, self._model, [await self._model.where(key)]) if key else (None,)
        return self._show(request, visitor, "where.html", key=key, it=found)

    async def _producers(self, request: web.Request, visitor: Visitor) -> web.Response:
        return self._show(
            request,
            visitor,
            "producers.html",
            producers=self._model.overview()["producers"],
            refusals=self._model.refusals(),
        )

    async def _configuration(self, request: web.Request, visitor: Visitor) -> web.Response:
        configuration = self._model.configuration()
        return self._show(request, visitor, "configuration.html", it=self._model.overview(), **configuration)

    # --- to change ---

    async def _probe(self, request: web.Request, visitor: Visitor) -> web.Response:
        form = await read_form(request)
        who = may_change(request, self._access, form.get(CSRF_FIELD, "")).name
        done = await self._actions.probe(request.match_info["name"], who=who)
        return self._show(request, visitor, "message.html", words="; ".join(done["words"]), back="/")

    async def _park(self, request: web.Request, visitor: Visitor) -> web.Response:
        form = await read_form(request)
        who = may_change(request, self._access, form.get(CSRF_FIELD, "")).name
        on = request.match_info["do"] == "park"
        done = await self._actions.park(request.match_info["name"], who=who, on=on)
        return self._show(request, visitor, "message.html", words="; ".join(done["words"]), back="/")

    async def _change(self, request: web.Request, visitor: Visitor) -> web.Response:
        """The first press says what it would do, the second does it. To delete, the count is typed."""
        form = await read_form(request)
        who = may_change(request, self._access, form.get(CSRF_FIELD, "")).name
        query, do = _chosen(form), form.get("do", "")
        acts: dict[str, Act] = {
            "retry": self._actions.retry,
            "purge": self._actions.purge,
            "park": self._actions.park_letters,
            "correct": partial(self._actions.correct, expression=form.get("expression", "")),
        }
        if do not in acts:
            raise ValueError("choose what to do")
        if do == "purge" and not is_chosen(query):
            raise ValueError("nothing is chosen to be deleted: tick letters, or filter them")
        act, confirmed = acts[do], form.get("confirmed", "").strip()
        would = await act(query, who=who, dry_run=True)
        if not confirmed or (do == "purge" and confirmed != str(would["selected"])):
            wrong = "that is not the number of letters" if confirmed else ""
            kept = {*QUERY_FIELDS, "ids", "expression"}
            fields = [(name, value) for name, value in form.items() if name in kept]
            return self._show(
                request, visitor, "confirm.html", do=do, would=would, fields=fields, wrong=wrong
            )
        done = await act(query, who=who, dry_run=False)
        return self._show(request, visitor, "done.html", do=do, done=done)

    async def _check(self, request: web.Request, visitor: Visitor) -> web.Response:
        payload = (await read_form(request)).get("payload", "")
        return self._show(request, visitor, "check.html", wrong=self._model.check(_compact(payload)))

    async def _edit(self, request: web.Request, visitor: Visitor) -> web.Response:
        form = await read_form(request)
        who = may_change(request, self._access, form.get(CSRF_FIELD, "")).name
        number, text = int(request.match_info["number"]), form.get("payload", "")
        payload = _compact(text)
        if wrong := self._model.check(payload):
            letter = await self._model.letter(number)
            return self._show(
                request, visitor, "letter.html", status=422, it=letter, pretty=text, wrong=wrong
            )
        done = await self._actions.edit(number, payload, who=who)
        return self._show(request, visitor, "done.html", do="edit", done=done)

    # --- who ---

    async def _login(self, request: web.Request, visitor: Visitor) -> web.Response:
        return self._show(request, visitor, "login.html", words="")

    async def _log_in(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        token = (await read_form(request)).get("token", "").strip()
        cookie = self._access.log_in(peer_of(request), token)
        if cookie is None:
            words = "this token is not known, or too many were tried: wait a minute"
            return self._show(request, visitor, "login.html", status=401, words=words)
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            COOKIE, cookie, max_age=int(SESSION_S), httponly=True, samesite="Strict", path="/"
        )
        return response

    async def _log_out(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        self._access.log_out(request.headers.get("Cookie", ""))
        response = web.Response(status=303, headers={"Location": "/"})
        response.del_cookie(COOKIE, path="/")
        return response


def _chosen(form: MultiDict[str]) -> LetterQuery:
    """What the form's fields name; ``ids``: the letters that are ticked. A form with ticks
    says ``chosen``: with none ticked it means none, not all. Raises ValueError."""
    ids = form.getall("ids", [])
    if "chosen" in form and not ids:
        raise ValueError("no letter is chosen: tick those that you mean")
    return letter_query({name: form.get(name, "") for name in QUERY_FIELDS}, ids)


def _pretty(payload: str | None) -> str:
    """Indented, with every number and string as it came; what is not JSON as it is."""
    try:
        return msgspec.json.format((payload or "").encode(), indent=2).decode()
    except (msgspec.DecodeError, RecursionError):
        return payload or ""


def _compact(text: str) -> bytes:
    """What a person typed, on one line; what is not JSON stays as it is, for the validator to say so."""
    try:
        return msgspec.json.format(text.encode(), indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return text.encode()


@cache
def _templates() -> Any:
    import jinja2  # 30 ms: not before somebody looks

    found = jinja2.Environment(
        loader=jinja2.PackageLoader("ingestd.admin"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(FILTERS)
    return found


async def _static(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    kind = _STATIC.get(name[name.rfind(".") :])
    file = files("ingestd.admin") / "static" / name
    if kind is None or "/" in name or not file.is_file():
        raise web.HTTPNotFound
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "max-age=3600"}
    return web.Response(body=file.read_bytes(), content_type=kind, charset="utf-8", headers=headers)
