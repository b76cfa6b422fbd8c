"""References to what the API gave a resource: ``ref:KIND.NAME.ATTRIBUTE``.

As ``ref:webhook.orders.invocationUrl``. They stand in the file of a plan and in the settings of a sink, and
are looked up when an apply, or the program, needs them. What they stand for may be a secret; their text is
none.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ingestd.core.errors import UserError
from ingestd.core.text import cut, did_you_mean

_FORM = re.compile(r"ref:([a-z_]+)\.([^\x00-\x1f]{1,256})\.([A-Za-z]{1,64})")
_ATTRIBUTES = {"webhook": ("id", "invocationUrl", "webhookId")}
_ID = ("id",)


class Reference(NamedTuple):
    """``name``: of the table in the file, or of the resource at the API."""

    kind: str
    name: str
    attribute: str

    @property
    def text(self) -> str:
        return f"ref:{self.kind}.{self.name}.{self.attribute}"

    @property
    def stand_in(self) -> str:
        """Has the form of what it stands for, so that a kind can check its table."""
        unique = uuid.uuid5(uuid.NAMESPACE_URL, self.text)
        return f"https://{unique}.invalid/x" if self.attribute.endswith("Url") else str(unique)


def parse_reference(text: str, kinds: Mapping[str, Any]) -> Reference | None:
    """None for any other text. Raises ValueError for one that was meant as a reference and is none."""
    match = _FORM.fullmatch(text)
    if not match:
        return None
    kind, name, attribute = match.groups()
    if kind == "integration" and attribute in _ATTRIBUTES["webhook"][1:]:
        kind = "webhook"  # that is one, too
    if kind not in kinds:
        if close := did_you_mean(kind, list(kinds)):
            raise ValueError(f"{cut(text)}: there is no kind {kind}: did you mean {close}?")
        return None
    if attribute not in (known := _ATTRIBUTES.get(kind, _ID)):
        raise ValueError(f"{cut(text)}: a {kind} has {', '.join(known)}")
    return Reference(kind, name, attribute)


def replaced(value: Any, change: Callable[[str], str]) -> Any:
    """The same tree with ``change`` of each text."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: replaced(inner, change) for name, inner in value.items()}
    return [replaced(inner, change) for inner in value] if isinstance(value, list | tuple) else value


def missing(reference: Reference) -> UserError:
    """To be raised."""
    return UserError(f"{cut(reference.text)}: there is no {reference.kind} {cut(reference.name)}")
