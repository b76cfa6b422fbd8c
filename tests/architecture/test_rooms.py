"""Who may import whom."""

import ast
from collections.abc import Iterator

from benchmarks.serve_profile import PARTS
from tests.architecture.modules import FLOOR_OF, imported_names, imports, modules, nodes_of, room_of, tree_of

STILL_UP = set[str]()
"""Imports that go up today. The list may only get shorter."""

PURE_ROOMS = {"processing", "sinks", "core"}
IO = {
    *("aiohttp", "aiosqlite", "anyio", "asyncio", "httpx", "os", "pathlib", "select", "shutil", "signal"),
    *("socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "urllib.request"),
}


def test_every_room_has_its_floor_and_no_module_stands_outside_of_a_room() -> None:
    loose = [name for name, path in modules().items() if room_of(name) not in FLOOR_OF]
    assert loose == ["ingestd", *[name for name in ("ingestd.__main__",) if name in modules()]]


def test_imports_go_down_only() -> None:
    offenders = {
        f"{module} -> {imported}"
        for module, found in imports().items()
        for imported in found
        if (above := room_of(module)) != (below := room_of(imported))
        and above
        and below
        and FLOOR_OF[above] >= FLOOR_OF[below]
    }
    assert offenders == STILL_UP


def test_no_files_import_each_other_in_a_circle() -> None:
    assert [set(circle) for circle in circles(imports())] == []


def test_a_command_calls_app_and_prints() -> None:
    behind = {
        "store",
        "delivery",
        "processing",
        "intake",
        "recording",
        "lake",
        "wiring",
        "sinks",
        "transport",
    }
    offenders = {
        f"{module} -> {imported}"
        for module, found in imports().items()
        for imported in found
        if room_of(module) == "cli" and room_of(imported) in behind
    }
    assert offenders == set()


ENDS_OR_PRINTS = {
    *("print", "input", "exit", "SystemExit"),
    *("sys.exit", "sys.stdin", "sys.stdout", "sys.stderr"),
}


def name_of(node: ast.AST) -> str:
    """``name`` or ``name.attribute``; of what is longer, and of everything else, nothing."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_what_a_command_does_can_be_called_by_others_than_a_command() -> None:
    """Nothing in ``app`` prints, reads standard input, parses options or ends the process."""
    offenders = []
    program = "ingestd.app.letters.jq_child"  # started by its path; nobody imports it
    assert not any(program in found for found in imports().values())
    for module, path in modules().items():
        if room_of(module) != "app" or module == program:
            continue
        names = map(name_of, nodes_of(tree_of(path), ast.Name, ast.Attribute))
        offenders += [f"{module}: {name}" for name in names if name in ENDS_OR_PRINTS]
        tops = {name.partition(".")[0] for name in imported_names(tree_of(path))}
        offenders += [f"{module}: {name}" for name in sorted(tops & {"click", "rich"})]
    assert offenders == []


def test_processing_sinks_and_core_do_no_input_or_output() -> None:
    offenders = list[str]()
    for module, path in modules().items():
        if room_of(module) not in PURE_ROOMS:
            continue
        tree = tree_of(path)
        used = {name for name in imported_names(tree) for io in IO if name == io or name.startswith(io + ".")}
        tops = {name.partition(".")[0] for name in used} - ({"asyncio"} if path.name == "clock.py" else set())
        calls = {node.id for node in nodes_of(tree, ast.Name) if node.id in {"open", "print", "input"}}
        offenders += [f"{module}: {name}" for name in sorted(tops | calls)]
    assert offenders == []


def test_no_module_is_longer_than_350_lines() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert {name: lines for name, lines in lengths.items() if lines > 350} == {}


def types_in(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Public classes, and names of types: ``Key = str | int``; each with what it is."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name, f"class {id(node)}"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, ast.unparse(node.value)


def test_a_public_name_of_a_type_stands_for_one_type() -> None:
    places: dict[str, dict[str, str]] = {}
    for module, path in modules().items():
        for name, what in types_in(tree_of(path)):
            if name[0].isupper() and not name.isupper():
                places.setdefault(name, {})[module] = what
    several = {name: sorted(found) for name, found in places.items() if len({*found.values()}) > 1}
    assert several == {}


def circles(arrows: dict[str, set[str]]) -> Iterator[list[str]]:
    """Strongly connected components of more than one file (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(node: str) -> Iterator[list[str]]:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(arrows.get(node, ())):
            if other not in index:
                yield from visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            found = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(found) > 1:
                yield found

    for node in sorted(arrows):
        if node not in index:
            yield from visit(node)


def test_a_circle_is_found() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert [sorted(circle) for circle in circles(arrows)] == [["a", "b", "c"]]


def test_the_profile_of_the_service_names_modules_that_there_are() -> None:
    there = [module.removeprefix("ingestd.").replace(".", "/") for module in modules()]
    assert [part for part in PARTS if not any(one.startswith(part) for one in there)] == []
