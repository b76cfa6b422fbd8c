"""A variable that a test of processes sets is read: a renamed setting would be left at its default."""

import ast
import re

from ingestd.config.loading import _variables
from ingestd.config.settings import Settings
from tests.architecture.modules import modules, nodes_of, tree_of
from tests.architecture.test_constants import TESTS


def test_variables_that_tests_set_are_read() -> None:
    known = {name for name, _ in _variables(Settings)}
    for module, path in modules().items():
        if module.startswith("ingestd.cli"):
            known |= set(re.findall(r"INGESTD_[A-Z_]+", path.read_text(encoding="utf-8")))
    assert [
        f"{path.relative_to(TESTS)}:{node.lineno}: {node.value}"
        for path in sorted((TESTS / "process").rglob("*.py"))
        for node in nodes_of(tree_of(path), ast.Constant)
        if re.fullmatch(r"INGESTD_[A-Z_]+", str(node.value))
        if node.value not in known
    ] == []
