"""All pages of a list, in the three ways of paging that there are. Called by ``api_client.py``.

By number (``pageNumber``, or ``page_number``), and by cursor: process automation gives a ``nextUri`` only.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from ingestd.core.errors import UserError

MAX_PAGES = 1000
PAGE_SIZE = 100

Params = Mapping[str, str | int]
Get = Callable[..., Awaitable[Any]]


async def list_all(get: Get, path: str, *, params: Params | None, base_url: str, max_pages: int) -> list[Any]:
    """The ``entities`` of all pages in order, each once (by ``id``, or by all of it).

    A ``nextUri`` is followed, on our own host only; otherwise ``pageCount`` (or ``page_count``) says how many
    there are, and where that is missing there is one. A page that was there before ends it. ``page_size`` in
    ``params`` asks for pages by that name; otherwise it is ``pageSize``, 100. Raises UserError for more than
    ``max_pages``, which cannot be distinguished from a loop.
    """
    own = dict(params or {})
    underscored = "page_size" in own
    own.setdefault("page_size" if underscored else "pageSize", PAGE_SIZE)
    entities: dict[str, Any] = {}
    asked: set[str] = set()
    page = await get(path, params=own)
    for number in range(2, max_pages + 2):
        found = _entities(page, path)
        known = len(entities)
        for entity in found:
            own_id = entity.get("id") if isinstance(entity, dict) else None
            key = own_id if isinstance(own_id, str) else json.dumps(entity, sort_keys=True)
            entities.setdefault(key, entity)
        if found and known == len(entities):
            return list(entities.values())  # it repeats
        rest = page if isinstance(page, dict) else {}
        underscored = underscored or "page_count" in rest
        if next_uri := rest.get("nextUri"):
            next_path = _own_path(next_uri, path=path, base_url=base_url)
            if next_path in asked:
                return list(entities.values())
            asked.add(next_path)
            page = await get(next_path)
        elif number <= _count(rest.get("page_count" if underscored else "pageCount")):
            page = await get(path, params=own | {"page_number" if underscored else "pageNumber": number})
        else:
            return list(entities.values())
    raise UserError(f"GET {path}: more than {max_pages} pages")


def _entities(page: Any, path: str) -> list[Any]:
    found = page.get("entities") if isinstance(page, dict) else page
    if not isinstance(found, list):
        raise UserError(f"GET {path}: the answer has no list of entities: is this the API?")
    return found


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 1


def _own_path(next_uri: object, *, path: str, base_url: str) -> str:
    """Path and query of ``next_uri`` below ``base_url``: a token must not be led to another host."""
    try:
        parts = urlsplit(next_uri if isinstance(next_uri, str) else "")
        base = urlsplit(base_url)
        host = parts.hostname
    except ValueError:
        raise UserError(f"GET {path}: nextUri is not a URL") from None
    if host is not None and host != base.hostname:
        raise UserError(f"GET {path}: nextUri leads to another host ({host[:100]}): refused")
    if not parts.path.startswith("/"):
        raise UserError(f"GET {path}: nextUri is not a path of the API")
    inside = parts.path.removeprefix(base.path)  # of a gateway, which may or may not show itself
    return f"{inside}?{parts.query}" if parts.query else inside
