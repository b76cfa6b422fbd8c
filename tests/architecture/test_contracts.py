"""A contract between two parts (a ``Protocol``) says what each of its methods promises."""

import ast
from collections.abc import Iterator

from tests.architecture.modules import modules, nodes_of, tree_of
from tests.each import each

STILL_SILENT = {
    *("WriterHost.monotonic", "WriterHost.pwrite", "WriterHost.start", "WriterHost.put", "WriterHost.ended"),
    "Reader.resume",
}
"""In ``store/writer.py``, which stand for functions of the library. The list may only get shorter."""


def silent(tree: ast.AST) -> Iterator[str]:
    """Methods without a docstring of which that of their class does not tell either. Properties are named
    after what they are, and a class with ``__call__`` alone is described as a whole."""
    for node in nodes_of(tree, ast.ClassDef):
        if not any("Protocol" in ast.unparse(base) for base in node.bases):
            continue
        if any("asyncio" in ast.unparse(base) for base in node.bases):
            continue
        told = ast.get_docstring(node) or ""
        for one in node.body:
            if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) or one.name == "__call__":
                continue
            if not (one.decorator_list or ast.get_docstring(one) or f"``{one.name}``" in told):
                yield f"{node.name}.{one.name}"


def test_each_method_of_a_contract_says_what_it_promises() -> None:
    found = {name for path in modules().values() for name in silent(tree_of(path))}
    assert found == STILL_SILENT


@each(
    ("body", "found"),
    [
        ("def send(self): ...", ["Part.send"]),
        ("async def send(self): ...", ["Part.send"]),
        ('def send(self):\n        """Sends."""', []),
        ("@property\n    def name(self): ...", []),
        ("def stop(self): ...", []),
    ],
)
def test_a_method_that_says_nothing_is_found(body: str, found: list[str]) -> None:
    text = f'class Part(Protocol):\n    """``stop``: no more."""\n    {body}\n'
    assert list(silent(ast.parse(text))) == found
