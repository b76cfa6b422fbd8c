"""What the pages and the JSON API share: the visitor, the request, and how an error is answered."""

# isort: split
from ingestd.transport import late_authorities as late_authorities  # before aiohttp

# isort: split
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from multidict import MultiDict

from ingestd.admin.access import CSRF_HEADER, Access, Role, Visitor
from ingestd.admin.read_model import LetterQuery, ReadModel

PAGE_LETTERS, MAX_LETTERS = 50, 500
MAX_FIELDS = 10_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
QUERY_FIELDS = (
    *("sink", "reason", "fingerprint", "state", "older", "newer"),
    *("event_id", "event_type", "producer", "text"),
)


class NotAllowed(Exception):
    """``words`` say what to do. ``known``: the visitor is known, and lacks the right."""

    def __init__(self, words: str, *, known: bool) -> None:
        super().__init__(words)
        self.words, self.known = words, known


def visitor_of(request: web.Request, access: Access) -> Visitor:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return access.visitor(peer_of(request), headers)


def peer_of(request: web.Request) -> str:
    """The address of the client; empty once it has gone."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return str(peer[0]) if peer else ""


def may_look(request: web.Request, access: Access) -> Visitor:
    """Raises NotAllowed."""
    visitor = visitor_of(request, access)
    if visitor.role < Role.VIEWER:
        raise NotAllowed(_how(access, "look at this from another machine"), known=False)
    return visitor


def may_change(request: web.Request, access: Access, csrf: str = "") -> Visitor:
    """``csrf``: of the form; else it is in the header. Raises NotAllowed."""
    visitor = visitor_of(request, access)
    if not access.may_change(visitor, csrf or request.headers.get(CSRF_HEADER, "")):
        if visitor.role >= Role.OPERATOR:
            raise NotAllowed("this page is too old: load it again", known=True)
        raise NotAllowed(_how(access, "change something"), known=bool(visitor.name))
    return visitor


def _how(access: Access, what: str) -> str:
    role = "operator" if "change" in what else "viewer"
    if access.has_tokens:
        return f"to {what} a console token with the role {role} is needed"
    return f"to {what} a console token is needed, and none is configured: see admin.tokens"


def letting_see(visitor: Visitor, model: ReadModel, shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All of it is for operators only."""
    return shown if visitor.role >= Role.OPERATOR else [model.redact(one) for one in shown]


def letters_asked(
    given: Mapping[str, str], visitor: Visitor, model: ReadModel, ids: list[str] | None = None
) -> LetterQuery:
    """As ``letter_query``. A visitor who may not see all of an event may not search its text either. Raises
    ValueError, NotAllowed."""
    query = letter_query(given, ids)
    if {"text", "event_id"} & query.keys() and visitor.role < Role.OPERATOR and model.redacts:
        raise NotAllowed(
            "to look for a text or an id in events is for operators: admin.redact is set", known=True
        )
    return query


def is_chosen(query: LetterQuery) -> bool:
    """Whether it names letters, and does not only mean all that wait."""
    return any(value for name, value in query.items() if (name, value) != ("state", "waiting"))


async def read_body(request: web.Request) -> bytes:
    """Raises ValueError for what is not packed as its headers say."""
    try:
        return await request.read()
    except web.RequestPayloadError:
        raise ValueError("the body is not packed as its headers say") from None


async def read_form(request: web.Request) -> MultiDict[str]:
    """What a page's form sends, which is UTF-8 whatever the headers name. Raises ValueError."""
    body = await read_body(request)
    if body and request.content_type != "application/x-www-form-urlencoded":
        raise ValueError("a form is wanted: application/x-www-form-urlencoded")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except UnicodeDecodeError:
        raise ValueError("the form is not UTF-8") from None
    return MultiDict(fields)


async def read_json(request: web.Request) -> Any:
    """Raises ValueError."""
    try:
        return msgspec.json.decode(await read_body(request))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"the body is not JSON: {error}") from None


def letter_query(given: Mapping[str, str], ids: list[str] | None = None) -> LetterQuery:
    """From a query string or a form; fields that are empty say nothing. Raises ValueError."""
    query: LetterQuery = {}
    for field in QUERY_FIELDS:
        if value := given.get(field, "").strip():
            query[field] = value  # type: ignore[literal-required]
    if ids:
        query["ids"] = [int(one) for one in ids]
    return query
