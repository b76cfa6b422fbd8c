"""What is defined is used, somewhere in ``ingestd/``."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from tests.architecture.modules import modules, nodes_of, tree_of
from tests.each import each

CALLED_BY_LIBRARIES = {
    "format_commands": "click",
    "_value_": "enum",
    **dict.fromkeys(("on_url", "on_message_begin", "on_header", "on_headers_complete"), "httptools"),
    **dict.fromkeys(("on_body", "on_message_complete"), "httptools"),
    **dict.fromkeys(("_run_once", "_write_to_self", "_process_events"), "asyncio"),
    **dict.fromkeys(("on_start", "generate_span_id", "generate_trace_id"), "OpenTelemetry"),
}
FOR_TESTS = {"read_from": "a package without the table of Genesys Cloud's models would have none to read"}
WORD = re.compile(r"[A-Za-z_]\w*")
DEFINED: tuple[type[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef], ...] = (
    *(ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef),
)


def defined(tree: ast.Module) -> Iterator[str]:
    """Functions, methods, classes, constants. What a decorator may register is none of them."""
    yield from (node.name for node in nodes_of(tree, *DEFINED) if not node.decorator_list)
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from (one.id for one in node.targets if isinstance(one, ast.Name))


def private_attributes(tree: ast.Module) -> Iterator[str]:
    """Those that are assigned to ``self``."""
    for node in nodes_of(tree, ast.Attribute):
        if isinstance(node.ctx, ast.Store) and node.attr.startswith("_"):
            yield node.attr


def used(tree: ast.Module) -> Iterator[str]:
    """Also in a short text: an annotation in quotes, ``getattr``."""
    yield from (node.id for node in nodes_of(tree, ast.Name) if isinstance(node.ctx, ast.Load))
    yield from (node.attr for node in nodes_of(tree, ast.Attribute) if not isinstance(node.ctx, ast.Store))
    for node in nodes_of(tree, ast.Constant):
        if isinstance(node.value, str) and len(node.value) < 200:
            yield from WORD.findall(node.value)


@cache
def all_used() -> set[str]:
    return {name for path in modules().values() for name in used(tree_of(path))}


def test_nothing_is_defined_that_nobody_uses() -> None:
    found = {
        f"{module}: {name}"
        for module, path in modules().items()
        for name in (*defined(tree_of(path)), *private_attributes(tree_of(path)))
        if name not in all_used() and not (name.startswith("__") and name.endswith("__"))
    }
    known = CALLED_BY_LIBRARIES.keys() | FOR_TESTS.keys()
    assert {one for one in found if one.partition(": ")[2] not in known} == set()


@each(
    ("text", "names"),
    [
        ("def left(): pass", {"left"}),
        ("class Left: pass", {"Left"}),
        ("LEFT = 1", {"LEFT"}),
        ("self._left = 1", {"_left"}),
        ("@hook\ndef left(): pass", set()),
        ("def f(): pass\nf()", set()),
        ("class A: pass\ndef f(one: 'A'): pass\nf()", set()),
    ],
)
def test_what_nobody_uses_is_found(text: str, names: set[str]) -> None:
    tree = ast.parse(text)
    assert {*defined(tree), *private_attributes(tree)} - set(used(tree)) == names
