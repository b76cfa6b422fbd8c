"""Lists in pages: classic, as the seed on subscriptions spells them, and by cursor (genesys.md 2.5)."""

import math
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from ingestd.sandbox.contract import Reply
from ingestd.sandbox.control.errors import InvalidField, invalid
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.resources import Resource
from ingestd.sandbox.exchange import Exchange

MAX_CURSOR_PAGE = 200
DEFAULT_PAGE = 25

Show = Callable[[Resource], Any]


def classic(
    exchange: Exchange, items: Sequence[Any], options: ControlOptions, *, show: Callable[[Any], Any]
) -> Reply:
    """``pageSize``, ``pageNumber`` -> ``{entities, total, pageCount, nextUri …}``. Raises Refused (400)."""
    size, number = _asked(exchange, "pageSize", "pageNumber", options)
    pages = max(1, math.ceil(len(items) / size))

    def uri(page: int) -> str:
        kept = "".join(
            f"&{name}={quote(value)}"
            for name, value in exchange.query.items()
            if name not in ("pageSize", "pageNumber")
        )
        return f"{exchange.path}?pageSize={size}&pageNumber={page}{kept}"

    content: dict[str, Any] = {
        "entities": [show(item) for item in items[(number - 1) * size : number * size]],
        "pageSize": size,
        "pageNumber": number,
        "total": len(items),
        "pageCount": pages,
        "firstUri": uri(1),
        "lastUri": uri(pages),
        "selfUri": uri(number),
    }
    if number < pages:
        content["nextUri"] = uri(number + 1)
    if number > 1:
        content["previousUri"] = uri(number - 1)
    if not options.page_count:
        del content["pageCount"]
    return _page(content)


def seeded(exchange: Exchange, items: Sequence[Resource], options: ControlOptions, *, show: Show) -> Reply:
    """As seed 004 asks: ``page_size``, ``page_number`` -> ``{entities, page_count …}``.

    Without the count, ``nextUri`` is the only way to the rest.
    """
    size, number = _asked(exchange, "page_size", "page_number", options)
    content: dict[str, Any] = {
        "entities": [show(item) for item in items[(number - 1) * size : number * size]],
        "page_size": size,
        "page_number": number,
        "total": len(items),
        "page_count": max(1, math.ceil(len(items) / size)),
    }
    if not options.page_count:
        del content["page_count"]
        if len(items) > number * size:
            content["nextUri"] = f"{exchange.path}?page_size={size}&page_number={number + 1}"
    return _page(content)


def by_cursor(exchange: Exchange, items: Sequence[Resource], *, show: Show) -> Reply:
    """``pageSize``, ``after`` or ``before`` -> ``{entities, nextUri, previousUri, selfUri}`` and no total.

    A cursor stands for a place among all that ever were, so a deletion in between leaves nothing out.
    """
    size = _whole(exchange, "pageSize", DEFAULT_PAGE, MAX_CURSOR_PAGE)
    if "after" in exchange.query and "before" in exchange.query:
        raise invalid(exchange, [InvalidField("before", "either after or before, not both")])
    if "before" in exchange.query:
        end = _place(exchange, "before")
        page = [item for item in items if item.number < end][-size:]
    else:
        start = _place(exchange, "after") if "after" in exchange.query else 0
        page = [item for item in items if item.number > start][:size]
    kept = f"{exchange.path}?pageSize={size}"
    content: dict[str, Any] = {"entities": [show(item) for item in page], "selfUri": kept}
    if page and items[-1].number > page[-1].number:
        content["nextUri"] = f"{kept}&after={_cursor(page[-1].number)}"
    if page and items[0].number < page[0].number:
        content["previousUri"] = f"{kept}&before={_cursor(page[0].number)}"
    return _page(content)


def _page(content: dict[str, Any]) -> Reply:
    return Reply(200, msgspec.json.encode(content))


def _asked(exchange: Exchange, size: str, number: str, options: ControlOptions) -> tuple[int, int]:
    default = min(DEFAULT_PAGE, options.max_page_size)
    return _whole(exchange, size, default, options.max_page_size), _whole(exchange, number, 1, 1_000_000)


def _whole(exchange: Exchange, name: str, default: int, most: int) -> int:
    text = exchange.query.get(name, str(default))
    if text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most:
        return int(text)
    raise invalid(exchange, [InvalidField(name, f"a whole number from 1 to {most} expected")])


def _cursor(number: int) -> str:
    return f"{number * 7919 + 13:x}"  # opaque enough that nobody counts with it


def _place(exchange: Exchange, name: str) -> int:
    text = exchange.query[name]
    if 1 <= len(text) <= 20 and all(letter in "0123456789abcdef" for letter in text):
        number, left = divmod(int(text, 16) - 13, 7919)
        if left == 0 and number > 0:
            return number
    raise invalid(exchange, [InvalidField(name, "this is not a cursor of this list")])
