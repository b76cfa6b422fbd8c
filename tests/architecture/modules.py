"""The modules of ``ingestd/`` and what they import."""

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2] / "ingestd"
FLOORS = [
    {"cli"},
    {"simulation"},
    {"app"},
    {"wiring"},
    {"cluster"},
    {"intake"},
    {"recording", "lake"},
    {"delivery", "control"},
    {"config"},
    {"sinks", "processing", "sources", "sandbox", "admin"},
    {"httpd", "transport", "telemetry", "store", "schemas"},
    {"core"},
]
"""From the top down: a room imports from floors below its own, and from itself."""
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file."""
    return {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(ROOT.rglob("*.py"))
    }


@cache
def tree_of(path: Path) -> ast.Module:
    gc.disable()  # most of the time went into looking for garbage among a million nodes
    tree = ast.parse(path.read_text(encoding="utf-8"))
    gc.freeze()
    gc.enable()
    return tree


_NO_NODES = {str, int, float, complex, bytes, bool, type(None), type(...), ast.Load, ast.Store, ast.Del}


Node = TypeVar("Node", bound=ast.AST)


def nodes_of(tree: ast.AST, *kinds: type[Node]) -> list[Node]:
    """Those of ``kinds`` below ``tree``, and it itself; of several kinds one after the other."""
    if isinstance(tree, ast.Module):
        return [node for kind in kinds for node in _by_kind(tree).get(kind, ())]
    return [node for node in _all_nodes(tree) if type(node) in kinds]


def _by_kind(module: ast.Module) -> dict[type[ast.AST], list[Any]]:
    """They are kept: many rules ask, each for a few kinds of them."""
    found: dict[type[ast.AST], list[Any]] | None = getattr(module, "by_kind", None)
    if found is None:
        found = {}
        for node in _all_nodes(module):
            found.setdefault(type(node), []).append(node)
        module.by_kind = found  # type: ignore[attr-defined]
    return found


def _all_nodes(tree: ast.AST) -> list[ast.AST]:
    """As ``ast.walk``, without ``Load``, ``Store``, ``Del``."""
    nodes = [tree]
    for node in nodes:
        for value in vars(node).values():
            kind = type(value)
            if kind is list:
                nodes += [one for one in value if isinstance(one, ast.AST)]
            elif kind not in _NO_NODES:
                nodes.append(value)
    return nodes


def imported_names(tree: ast.AST) -> Iterator[str]:
    for node in nodes_of(tree, ast.Import):
        yield from (alias.name for alias in node.names)
    for source in nodes_of(tree, ast.ImportFrom):
        assert source.level == 0, "relative imports hide the room"
        yield from (f"{source.module}.{alias.name}" for alias in source.names)


@cache
def imports() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports, also inside functions and for types only."""
    known = modules()
    found: dict[str, set[str]] = {}
    for module, path in known.items():
        names = [name for name in imported_names(tree_of(path)) if name.partition(".")[0] == "ingestd"]
        found[module] = {name if name in known else name.rpartition(".")[0] for name in names} - {module}
    return found


def room_of(module: str) -> str:
    """Empty for the package itself, and for ``python -m ingestd``."""
    return module.partition(".")[2].partition(".")[0].removeprefix("__main__")
