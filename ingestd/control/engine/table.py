"""One table of the file, read field by field, with the words for what is wrong. Called by ``parse`` of
destinations and subscriptions.
"""

from collections.abc import Mapping, Set
from typing import Any

from ingestd.control.engine.resource import ResourceAddress
from ingestd.core.errors import UserError
from ingestd.core.text import cut, did_you_mean

MAX_NAME = 100
MAX_AFTER = 100
_COMMON = frozenset({"name", "after", "protected"})


class TableReader:
    """``where``: how it is called in errors, as ``destination orders``. No error quotes a value: it may be a
    secret in the wrong place. Raises UserError for fields that are not ``known``."""

    def __init__(self, kind: str, name: str, table: Mapping[str, Any], *, known: Set[str]) -> None:
        self.where = f"{kind} {cut(name, MAX_NAME)}"
        self._name, self._table = name, table
        fields = sorted(known | _COMMON)
        for field in table:
            if field not in fields:
                close = did_you_mean(str(field), fields)
                hint = f"did you mean {close}?" if close else f"there are {', '.join(fields)}"
                raise UserError(f"{self.where}: {cut(str(field), MAX_NAME)}: there is no such field; {hint}")

    def wrong(self, field: str, expected: str) -> UserError:
        """To be raised."""
        return UserError(f"{self.where}: {field}: {expected}")

    def get(self, field: str) -> Any:
        """As it stands there; None where it does not."""
        return self._table.get(field)

    def require(self, field: str) -> Any:
        if field not in self._table:
            raise self.wrong(field, "required, but missing")
        return self._table[field]

    def name(self) -> str:
        """The remote name; the table's, if there is none."""
        return self._text("name", self._table.get("name", self._name), least=1, most=MAX_NAME)

    def text(self, field: str, *, most: int, default: str = "") -> str:
        """Of at most ``most`` characters, without control characters."""
        return self._text(field, self._table.get(field, default), least=0, most=most)

    def texts(self, field: str, *, most: int, most_characters: int) -> list[str]:
        """A set: sorted, each once; 1 to ``most`` of them."""
        values = self.require(field)
        if not isinstance(values, list) or not 1 <= len(values) <= most:
            raise self.wrong(field, f"expected a list of 1 to {most} texts")
        return sorted({self._text(field, value, least=1, most=most_characters) for value in values})

    def flag(self, field: str, *, default: bool) -> bool:
        value = self._table.get(field, default)
        if not isinstance(value, bool):
            raise self.wrong(field, "expected true or false")
        return value

    def protected(self) -> bool:
        return self.flag("protected", default=False)

    def after(self) -> frozenset[ResourceAddress]:
        """``after = ["integration.orders"]``: what has to exist before."""
        values = self._table.get("after", [])
        if not isinstance(values, list) or len(values) > MAX_AFTER:
            raise self.wrong("after", f"expected a list of at most {MAX_AFTER}")
        found = set[ResourceAddress]()
        for value in values:
            kind, _, name = value.partition(".") if isinstance(value, str) else ("", "", "")
            if not (kind and name):
                raise self.wrong("after", 'expected "kind.NAME", as in "integration.orders"')
            found.add((kind, name))
        return frozenset(found)

    def _text(self, field: str, value: Any, *, least: int, most: int) -> str:
        good = isinstance(value, str) and least <= len(value) <= most and value.isprintable()
        if not good or value != value.strip():
            raise self.wrong(field, f"expected one line of {least} to {most} characters, no blanks around it")
        return str(value)
