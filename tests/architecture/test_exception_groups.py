"""Nothing new is raised in ``except*``: until Python 3.11.4, as on Debian 12, that is wrapped in a group."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.modules import modules, nodes_of, tree_of


def raised_in_groups(tree: ast.AST) -> Iterator[str]:
    for tried in nodes_of(tree, ast.TryStar):
        for handler in tried.handlers:
            for node in ast.walk(handler):
                if isinstance(node, ast.Raise) and node.exc is not None:
                    yield ast.unparse(node)


def test_nothing_new_is_raised_in_except_star() -> None:
    offenders = {
        name: found for name, path in modules().items() if (found := [*raised_in_groups(tree_of(path))])
    }
    assert offenders == {}, "see ingestd.core.clock.ungrouped"


@pytest.mark.parametrize(("what", "found"), [("raise x from None", ["raise x from None"]), ("raise", [])])
def test_what_is_raised_is_found(what: str, found: list[str]) -> None:
    assert [*raised_in_groups(ast.parse(f"try: pass\nexcept* ValueError:\n  {what}"))] == found
