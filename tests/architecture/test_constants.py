"""Limits are passed in: no test changes a constant of a module of ours."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.modules import nodes_of, tree_of
from tests.each import each

TESTS = Path(__file__).parents[1]


def changed_constants(tree: ast.AST) -> Iterator[int]:
    """Lines with ``setattr(module, "CONSTANT", value)`` or ``setattr("module.CONSTANT", value)``."""
    for call in nodes_of(tree, ast.Call):
        if "setattr" in (getattr(call.func, name, "") for name in ("id", "attr")):
            named = [one.value for one in call.args[:2] if isinstance(one, ast.Constant)]
            if named and str(named[0]).rpartition(".")[2].isupper():
                yield call.lineno
    for node in nodes_of(tree, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Attribute) and target.attr.isupper():
                yield node.lineno


MAY_CHANGE = re.compile(r"setattr|\.[A-Z0-9_]+\s*=(?!=)")
"""What a text has that changes one: most files need not be parsed."""


def test_no_test_changes_a_constant() -> None:
    offenders = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        if MAY_CHANGE.search(path.read_text(encoding="utf-8"))
        for line in changed_constants(tree_of(path))
    ]
    assert offenders == []


@each(
    "line",
    [
        'monkeypatch.setattr(module, "SWEEP_S", 0.02)',
        'monkeypatch.setattr("ingestd.store.database._PAUSE_S", 1)',
        'setattr(module, "MAX", 1)',
        "module.LIMIT = 3",
    ],
)
def test_a_changed_constant_is_found(line: str) -> None:
    assert MAY_CHANGE.search(line)
    assert list(changed_constants(ast.parse(line))) == [1]
