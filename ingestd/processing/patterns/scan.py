"""The quick pass of routing: decodes of each event only the fields that patterns ask for, and tries them all
in one generated loop. Called by ``routes.py``, which decides by ``exact.py`` what this pass cannot.

The generated source holds names and numbers of our own only; all text of a pattern is a bound constant.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Protocol

import msgspec

from ingestd.processing.patterns.exact import Node, wanted
from ingestd.processing.patterns.operators import Names, Scalar
from ingestd.processing.patterns.parse import AllOf, AnyOf, Clause, Formula, Path

Append = Callable[[int], None]


class Scan(Protocol):
    def __call__(
        self, events: Sequence[Any], at: int, slow: Append, unmatched: Append, matched: Sequence[Append], /
    ) -> None:
        """Of decoded ``events``, the first at position ``at``: calls ``matched[i]`` with the positions that
        formula i takes, ``unmatched`` with those that none does, ``slow`` with those that are None.
        """
        ...


def build(formulas: Sequence[Formula]) -> tuple[Callable[[bytes], Any], Scan] | None:
    """A decoder of events, which raises ValueError or RecursionError, and the loop over what it gives.

    None where a field's name cannot be compiled.
    """
    names = Names()
    loads: dict[Path, str] = {}
    try:
        struct = _struct(wanted(formulas), "e", (), loads, count())
    except ValueError:  # a name with a quote, a backslash or a control character
        return None
    lines = ["def scan(events, at, slow, unmatched, matched):"]
    lines += [f"    m{i} = matched[{i}]" for i in range(len(formulas))]
    lines += [
        "    for e in events:",
        "        if e is None: slow(at)",
        "        else:",
        "            hit = False",
    ]
    for i, formula in enumerate(formulas):
        lines += [
            f"            if {_source(formula, loads, names)}:",
            f"                hit = True; m{i}(at)",
        ]
    lines += ["            if not hit: unmatched(at)", "        at += 1"]
    exec("\n".join(lines), names.values)  # noqa: S102
    return msgspec.json.Decoder(struct).decode, names.values["scan"]


def _struct(
    node: Node, load: str, path: Path, loads: dict[Path, str], number: "count[int]"
) -> type[msgspec.Struct]:
    """A type with just the members of ``node``; ``loads``: where a value is then found, by its path.

    Every value is a scalar or UNSET: an event that has an array or an object there fails to decode.
    """
    fields: list[tuple[str, Any, Any]] = []
    rename = {}
    for at, (name, below) in enumerate(node.below.items()):
        attribute, here = f"f{at}", (*path, name)
        rename[attribute] = name
        if below.below and below.leaf is None:
            struct = _struct(below, f"{load}.{attribute}", here, loads, number)
            fields.append((attribute, struct, struct()))
        else:
            loads[here] = f"{load}.{attribute}"
            fields.append((attribute, Scalar | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct(f"Fields{next(number)}", fields, rename=rename, frozen=True, gc=False)


def _source(formula: Formula, loads: dict[Path, str], names: Names) -> str:
    if isinstance(formula, Clause):
        # Under a field that is asked for itself nothing can be, unless it is an object and goes the slow way.
        load = loads.get(formula.path, "UNSET")
        tests = " or ".join(f"({operator.source(names)})" for operator in formula.operators)
        # The leftmost place is the first to be reached.
        return tests.replace("{x}", f"(x := {load})", 1).replace("{x}", "x")
    joint = {AllOf: " and ", AnyOf: " or "}[type(formula)]
    return joint.join(f"({_source(part, loads, names)})" for part in formula.parts)
