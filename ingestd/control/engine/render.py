"""A plan as a person reads it: one block for each change, then the sum. Called by ``Plan.render``."""

from collections import Counter
from collections.abc import Iterable, Iterator

from ingestd.control.engine.change import QUIET, Action, Change
from ingestd.control.engine.compare import Difference, canonical, dotted, shown
from ingestd.core.text import cut, printable

_SIGNS = {
    Action.CREATE: ("+", 32),
    Action.UPDATE: ("~", 33),
    Action.REPLACE: ("-/+", 31),
    Action.RESUME: (">", 36),
    Action.ADOPT: ("=", 36),
    Action.REMEMBER: ("=", 36),
    Action.DELETE: ("-", 31),
    Action.REFUSED: ("!", 35),
}
_WORDS = {
    Action.CREATE: "to create",
    Action.UPDATE: "to update",
    Action.REPLACE: "to replace",
    Action.RESUME: "to resume",
    Action.ADOPT: "to adopt",
    Action.REMEMBER: "to remember",
    Action.DELETE: "to delete",
    Action.REFUSED: "refused",
    Action.NOTHING: "unchanged",
}


def render(changes: Iterable[Change], *, color: bool) -> str:
    """Values of secrets are not in it; control characters of a remote's text are escaped."""
    changes = list(changes)
    lines: list[str] = []
    for change in changes:
        if change.action is not Action.NOTHING:
            sign, number = _SIGNS[change.action]
            head = f"{sign} {_head(change)}"
            lines += [f"\x1b[{number}m{head}\x1b[0m" if color else head, *_body(change)]
    return "\n".join([*lines, _sum(changes)])


def _head(change: Change) -> str:
    name = "" if change.address[1] == change.key else f" {shown((), change.key)}"
    its_id = f" ({printable(change.found.id)})" if change.found else ""
    why = f": {cut(change.why)}" if change.why else ""
    return f"{printable(change.label)}{name}{its_id} {change.action}{why}"


def _body(change: Change) -> Iterator[str]:
    if change.action is Action.DELETE:
        return
    for one in change.differences:
        yield from (f"    {line}" for line in _lines(one))
    for path in change.secrets:
        there = change.wanted is not None and path in change.wanted.secrets
        note = "secret" if change.action is Action.CREATE else "secret changed" if there else "secret removed"
        yield f"    {'+' if change.action is Action.CREATE else '~'} {printable(path)} ({note})"


def _lines(one: Difference) -> Iterator[str]:
    path = dotted(one.path)
    if one.before is None:
        yield f"+ {path} = {shown(one.path, one.after)}"
    elif one.after is None:
        yield f"- {path} = {shown(one.path, one.before)}"
    elif isinstance(one.before, list | tuple) and isinstance(one.after, list | tuple):
        yield from _items(path, one)
    else:
        yield f"~ {path}: {shown(one.path, one.before)} -> {shown(one.path, one.after)}"


def _items(path: str, one: Difference) -> Iterator[str]:
    """Lists: what goes and what comes; the whole where only the order differs."""
    before, after = list(one.before), list(one.after)
    gone, come = _less(before, after), _less(after, before)
    if not gone and not come:
        yield f"~ {path}: {shown(one.path, before)} -> {shown(one.path, after)}"
        return
    yield f"~ {path}:"
    yield from (f"    - {shown(one.path, item)}" for item in gone)
    yield from (f"    + {shown(one.path, item)}" for item in come)


def _less(some: list[object], others: list[object]) -> list[object]:
    left = Counter(canonical(other) for other in others)
    rest = []
    for item in some:
        if left[canonical(item)] > 0:
            left[canonical(item)] -= 1
        else:
            rest.append(item)
    return rest


def _sum(changes: list[Change]) -> str:
    counts = Counter(change.action for change in changes)
    parts = [f"{counts[action]} {_WORDS[action]}" for action in Action if counts[action]]
    begin = "Nothing to do" if set(counts) <= QUIET else "Plan"
    return f"{begin}: {', '.join(parts)}." if parts else f"{begin}."
