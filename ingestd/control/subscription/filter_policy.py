"""A subscription's filter: a pattern of EventBridge's whole language, in one canonical form. Pure.

Called by ``subscription.py``.
"""

from collections.abc import Mapping
from typing import Any

from ingestd.control.engine.compare import canonical
from ingestd.core import json_text
from ingestd.core.errors import UserError
from ingestd.core.text import cut
from ingestd.processing.patterns.operators import Cidr
from ingestd.processing.patterns.parse import MAX_DEPTH, Clause, clauses, parse, show_path

_ORDERED = frozenset({"numeric"})
"""Operators whose array is not a set: ``[">", 0, "<=", 5]``."""


def parse_policy(value: object, *, where: str) -> dict[str, Any]:
    """``value``: a table, or JSON text. Raises UserError: where in it, and what was expected there."""
    if isinstance(value, str):
        try:
            value = json_text.read(value)
        except ValueError as error:
            raise UserError(f"{where}: it is not JSON: {cut(str(error))}") from None
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: expected a table or JSON text of an object")
    try:
        for clause in clauses(parse(value)):
            _check_networks(clause)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return canonical_policy(value)


def _check_networks(clause: Clause) -> None:
    """Event Ruler, which decides about filters over there, refuses networks of one address."""
    for operator in clause.operators:
        if isinstance(operator, Cidr) and operator.network.num_addresses == 1:
            address = operator.network.network_address
            raise UserError(
                f'{show_path(clause.path)}: {operator.network} is a single address: write ["{address}"]'
            )


def canonical_policy(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Equal for filters that are written differently and mean the same: the order of alternatives, and how
    often each is given, means nothing. Takes whatever JSON an API has kept."""
    return {str(name): _canonical(value, 1) for name, value in policy.items()}


def _canonical(value: Any, depth: int, *, ordered: bool = False, in_list: bool = False) -> Any:
    if depth > 2 * MAX_DEPTH:
        return value
    if isinstance(value, Mapping):  # within a list it is an operator, else a field of that name
        return {
            str(name): _canonical(below, depth + 1, ordered=in_list and name in _ORDERED)
            for name, below in value.items()
        }
    if isinstance(value, list):
        parts = [_canonical(below, depth + 1, in_list=True) for below in value]
        if ordered:
            return parts
        return [part for _, part in sorted({canonical(part): part for part in parts}.items())]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
