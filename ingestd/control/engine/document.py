"""The file of what is wanted: read, variables put in, each table given to its kind. The first step of a plan.

[variables]
host = "dev.example.com"

[target.orders]
endpoint_url = "https://${host}/orders"
after = ["integration.main"]
"""

import graphlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ingestd.control.engine.compare import dotted
from ingestd.control.engine.document_file import read_tree
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.reference import Reference, parse_reference, replaced
from ingestd.control.engine.resource import ResourceAddress, ResourceKind, Wanted
from ingestd.control.engine.variables import fill_in, read_variables
from ingestd.core.errors import UserError
from ingestd.core.redaction import MASK, is_masked
from ingestd.core.text import cut, printable, suggestion

MAX_RESOURCES = 5000
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Document:
    """``wanted``: sorted by address; each address and (kind, key) once; what ``after`` names is there.
    ``tables``: what they were made of, by kind and name, with the variables filled in."""

    wanted: tuple[Wanted, ...]
    tables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kinds(self) -> set[str]:
        """Also those that are only referred to."""
        return {one.kind for one in self.wanted} | {r.kind for one in self.wanted for r in one.references}


def load_document(
    path: str | Path,
    variables: Mapping[str, str] | None = None,
    *,
    kinds: Mapping[str, ResourceKind] = KINDS,
    environ: Mapping[str, str] | None = None,
) -> Document:
    """TOML; YAML where the file ends in .yaml or .yml, JSON in .json. ``variables``: from the command line.

    Raises UserError: file, table and field, what was expected; never the value, which may be a secret.
    """
    try:
        tree = read_tree(Path(path))
        values = read_variables(tree.pop("variables", {}), variables or {}, environ)
        return make_document(fill_in(tree, values), kinds=kinds)
    except UserError as error:
        raise UserError(f"{printable(str(path))}: {error}") from None


def make_document(tree: Mapping[str, Any], *, kinds: Mapping[str, ResourceKind] = KINDS) -> Document:
    """Of tables by kind and name, as ``{"target": {"orders": {…}}}``. Raises UserError."""
    wanted: list[Wanted] = []
    for kind, tables in tree.items():
        if kind not in kinds:
            known = [*kinds, "variables"]
            raise UserError(f"there is no table [{_short(kind)}]{suggestion(str(kind), known)}")
        if not isinstance(tables, Mapping):
            raise UserError(f"[{kind}]: tables with names expected, as [{kind}.NAME]")
        wanted += [_parse(kinds[kind], name, table, kinds) for name, table in tables.items()]
    if len(wanted) > MAX_RESOURCES:
        raise UserError(f"there are {len(wanted)} resources, at most {MAX_RESOURCES} fit in a file")
    addresses = {one.address for one in wanted}
    wanted = [replace(one, after=one.after | {r[:2] for r in one.references} & addresses) for one in wanted]
    wanted.sort(key=lambda one: one.address)
    _check_keys(wanted)
    _check_after(wanted)
    return Document(tuple(wanted), tree)


def _parse(kind: ResourceKind, name: str, table: Any, kinds: Mapping[str, ResourceKind]) -> Wanted:
    where = f"{kind.name} {_short(name)}"
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{where}: a table's name has 1 to 100 letters, digits, - and _; use name = for others"
        )
    if not isinstance(table, Mapping):
        raise UserError(f"{where}: a table expected, as [{kind.name}.{name}]")
    fields = dict(table)
    after = _addresses(fields.pop("after", []), where)
    protected = fields.pop("protected", False)
    if not isinstance(protected, bool):
        raise UserError(f"{where}: protected: expected true or false")
    if masked := next(_masked(fields, ()), None):
        raise UserError(
            f"{where}: {dotted(masked)}: it holds the mask that is printed for a secret ({MASK}): give a"
            " reference, env:NAME or file:PATH"
        )
    references: dict[Reference, None] = {}

    def stand_in(text: str) -> str:
        if one := parse_reference(text, kinds):
            references[one] = None
        return one.stand_in if one else text

    try:
        checked = replaced(fields, stand_in)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    wanted = kind.parse(name, checked)
    texts = {one.stand_in: one.text for one in references}
    return replace(
        wanted,
        fields=replaced(wanted.fields, lambda text: texts.get(text, text)) if texts else wanted.fields,
        after=wanted.after | after,
        protected=wanted.protected or protected,
        references=tuple(references),
    )


def _masked(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Where an export, or somebody who copied it from a screen, left no secret but its mask."""
    if isinstance(value, str) and is_masked(value):
        yield path
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _masked(inner, (*path, str(name)))
    elif isinstance(value, list):
        for inner in value:
            yield from _masked(inner, path)


def _addresses(value: Any, where: str) -> frozenset[ResourceAddress]:
    texts = value if isinstance(value, list) else [None]
    parts = [one.partition(".") if isinstance(one, str) else ("", "", "") for one in texts]
    if not all(kind and dot and name for kind, dot, name in parts):
        raise UserError(f'{where}: after: expected a list like ["integration.main"]')
    return frozenset((kind, name) for kind, _, name in parts)


def _check_keys(wanted: list[Wanted]) -> None:
    first: dict[tuple[str, str], Wanted] = {}
    for one in wanted:
        other = first.setdefault((one.kind, one.key), one)
        if other is not one:
            raise UserError(
                f"{one.kind} {one.name}: {_short(one.key)} is also the name of {one.kind} {other.name}: "
                "each resource once"
            )


def _check_after(wanted: list[Wanted]) -> None:
    there = {one.address: one for one in wanted}
    for one in wanted:
        for address in sorted(one.after - there.keys()):
            label = ".".join(address)
            hint = suggestion(str(label), [".".join(known) for known in there])
            raise UserError(f"{one.kind} {one.name}: after: there is no {_short(label)} in the file{hint}")
    try:
        graphlib.TopologicalSorter({one.address: sorted(one.after) for one in wanted}).prepare()
    except graphlib.CycleError as error:
        circle = " -> ".join(".".join(address) for address in reversed(error.args[1]))
        raise UserError(f"these come after each other in a circle: {cut(circle, 500)}") from None


def _short(text: object) -> str:
    return cut(str(text), 100)
