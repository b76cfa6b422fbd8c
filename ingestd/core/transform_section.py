"""``[[transforms]]`` and ``[[sinks.NAME.transforms]]``: what is changed in events before a sink gets them."""

from typing import Annotated, Any, Literal

from ingestd.core import json_path
from ingestd.core.section import Section
from ingestd.core.setting_types import (
    AS_OBJECT,
    NOTHING,
    After,
    Before,
    JsonPath,
    Secret,
    SecretFile,
    as_list,
    field,
)

ACTIONS = ("drop", "keep", "remove", "rename", "set", "template", "redact", "jq", "python")
"""Of a step it has one."""
MOST_STEPS = 50


def _not_whole(path: str) -> str:
    if not json_path.parse(path):
        raise ValueError("the event itself is not a field: name one, as meta.version")
    return path


FieldPath = Annotated[JsonPath, After(_not_whole)]


class TransformConfig(Section):
    """One step: `when` chooses events, and one other setting says what is done with them."""

    when: Annotated[dict[str, Any], AS_OBJECT] = field(
        {}, description="EventBridge pattern, as TOML or JSON: which events; empty: all"
    )
    drop: bool = field(False, description="the sink does not get the event: it is counted as dropped")
    keep: Annotated[list[FieldPath], Before(as_list)] = field(
        [], description="paths of the fields that stay; all others go"
    )
    remove: Annotated[list[FieldPath], Before(as_list)] = field([], description="paths of fields that go")
    rename: dict[FieldPath, FieldPath] = field({}, description="path of a field -> its new path")
    set: dict[FieldPath, Any] = field({}, description="path -> value that stands there then")
    template: dict[FieldPath, str] = field(
        {}, description="path -> text that stands there then, with {path} for what the event has"
    )
    redact: Annotated[list[FieldPath], Before(as_list)] = field(
        [], description="paths of fields whose value is hidden, by method"
    )
    method: Literal["hash", "mask"] = field(
        "hash", description="how redact hides: hash: a keyed digest, the same for the same value; mask: ***"
    )
    last: int = field(0, ge=0, le=64, description="mask: characters at the end that stay")
    secret: Secret = field(NOTHING, description="key of a hash; empty: the installation's own")
    secret_file: SecretFile = field("", description="a file that holds that key and nothing else")
    jq: str = field("", max_length=10_000, description="a program of jq that makes one object of the event")
    python: str = field(
        "",
        description="module:function; it gets a list of events as bytes and gives as many, or None to drop",
    )

    @property
    def action(self) -> str:
        """Which of ACTIONS it is."""
        return next(name for name in ACTIONS if getattr(self, name))

    def _check(self) -> None:
        given = [name for name in ACTIONS if getattr(self, name)]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            raise ValueError(f"a step has one of {', '.join(ACTIONS)}; {found}")
        hashes = given == ["redact"] and self.method == "hash"
        if (self.secret.get_secret_value() or self.secret_file) and not hashes:
            raise ValueError("secret and secret_file belong to redact with method = 'hash'")
        if self.secret.get_secret_value() and self.secret_file:
            raise ValueError("use either secret or secret_file, not both")
        if self.last and (given != ["redact"] or self.method != "mask"):
            raise ValueError("last belongs to redact with method = 'mask'")
