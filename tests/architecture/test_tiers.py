"""What tests of a tier may do: see docs/contributing.md."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from tests.architecture.modules import imported_names, nodes_of, tree_of
from tests.each import each

TESTS = Path(__file__).parents[1]
TIERS = {"unit", "contract", "integration", "simulation", "process", "docs", "architecture"}
PROCESSES = {"subprocess", "multiprocessing", "concurrent.futures.ProcessPoolExecutor"}
PROCESS_CALLS = {"fork", "forkpty", "posix_spawn", "spawnv", "system", "popen", "create_subprocess_exec"}
LOOPS = {"asyncio", "anyio", "uvloop", "threading", "concurrent", "socket", "socketserver", "http.server"}
TOOLS = {
    "tests.aws": "moto stands for AWS, in a process that every tier may use",
    "tests.each": "runs a table of cases, in the loop of its test if that has one",
    "tests.machine": "measures the machine, once a run",
    "tests.limits": "ends what does not end",
    "tests.cost": "measures what a test costs",
}


@cache
def modules_of_tests() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(TESTS.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(TESTS.rglob("*.py"))
    }


def tier_of(module: str) -> str:
    return [*module.split("."), ""][1]


@cache
def names_in(module: str) -> list[str]:
    return list(imported_names(tree_of(modules_of_tests()[module])))


def reached(module: str, seen: set[str] | None = None) -> set[str]:
    """The module and what it imports of ``tests``."""
    seen = set() if seen is None else seen
    if module in seen or module in TOOLS:
        return seen
    seen.add(module)
    for name in names_in(module):
        for one in (name, name.rpartition(".")[0]):
            if one in modules_of_tests():
                reached(one, seen)
    return seen


@cache
def what_needs(judge: Callable[[ast.Module], Iterator[str]], module: str) -> list[str]:
    return list(judge(tree_of(modules_of_tests()[module])))


def starts_processes(tree: ast.Module) -> Iterator[str]:
    yield from _imports(tree, PROCESSES)
    for node in nodes_of(tree, ast.Attribute):
        if node.attr in PROCESS_CALLS:
            yield node.attr


def needs_a_loop(tree: ast.Module) -> Iterator[str]:
    yield from starts_processes(tree)
    yield from _imports(tree, LOOPS)
    for node in nodes_of(tree, ast.AsyncFunctionDef):
        yield f"async {node.name}"


def _imports(tree: ast.Module, rooms: set[str]) -> Iterator[str]:
    for name in imported_names(tree):
        if any(name == room or name.startswith(room + ".") for room in rooms):
            yield name


def offenders(tiers: set[str], rule: str) -> list[str]:
    judge = {"processes": starts_processes, "loops": needs_a_loop}[rule]
    return sorted(
        {
            f"{module} by {one}: {what}"
            for module in modules_of_tests()
            if tier_of(module) in tiers
            for one in reached(module)
            for what in what_needs(judge, one)
        }
    )


def test_every_test_is_in_a_tier() -> None:
    loose = [name for name, path in modules_of_tests().items() if path.name.startswith("test_")]
    assert [name for name in loose if tier_of(name) not in TIERS] == []


def test_a_unit_test_has_no_loop_no_thread_and_no_socket() -> None:
    assert offenders({"unit"}, "loops") == []


def test_only_tests_of_processes_start_processes() -> None:
    assert offenders({"unit", "contract", "integration"}, "processes") == []


def slow_tests() -> dict[str, list[str]]:
    """Test -> those that are named as holding the same in ``make test``."""
    found = {}
    for path in modules_of_tests().values():
        tree = tree_of(path)
        of_all = [mark for node in tree.body if _is_pytestmark(node) for mark in _slow_marks(node)]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                marks = [mark for one in node.decorator_list for mark in _slow_marks(one)] + of_all
                if marks:
                    found[f"{path.relative_to(TESTS.parent)}::{node.name}"] = [
                        word.value if isinstance(word, ast.Constant) else ast.unparse(word)
                        for mark in marks
                        for word in getattr(mark, "args", ())
                    ]
    return found


def _is_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"


def _slow_marks(tree: ast.AST) -> Iterator[ast.AST]:
    """``pytest.mark.slow(…)``; without the call it names nothing."""
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Attribute(ast.Name("pytest"), "mark"), "slow"):
                yield calls.get(id(node), node)


def test_what_a_slow_test_promises_is_held_by_tests_that_are_not_slow() -> None:
    slow = slow_tests()
    wrong = {test: named for test, named in slow.items() if not named or slow.keys() & {*named}}
    for test, named in slow.items():
        for path, _, function in (name.partition("::") for name in named):
            file = TESTS.parent / path
            if not file.is_file() or function not in {getattr(one, "name", "") for one in tree_of(file).body}:
                wrong[test] = [path, function]
    assert wrong == {}
    assert len(slow) > 5


def test_slow_tests_have_a_verb_of_their_own_and_what_counts_runs_both() -> None:
    verbs = (TESTS.parent / "Makefile").read_text(encoding="utf-8")
    chosen = re.findall(r'^(test\S*): .*\n\t\$\(PYTEST\) -m ("not slow"|slow) ', verbs, re.MULTILINE)
    assert chosen == [("test", '"not slow"'), ("test-slow", "slow")]
    assert {"make test", "make test-slow"} <= set((TESTS.parent / ".ci/run").read_text().splitlines())


@each(
    ("line", "found"),
    [
        ("@pytest.mark.slow", 1),
        ("@pytest.mark.slow('a')", 1),
        ("@pytest.mark.parametrize('x', [1, pytest.param(2, marks=pytest.mark.slow('a'))])", 1),
        ("@pytest.mark.timeout(3)", 0),
    ],
)
def test_a_slow_test_is_found(line: str, found: int) -> None:
    assert len(list(_slow_marks(ast.parse(f"{line}\ndef test(): ...")))) == found


@each(
    ("line", "found"),
    [
        ("import subprocess", ["subprocess"]),
        ("from multiprocessing import Process", ["multiprocessing.Process"]),
        ("async def test(): await asyncio.create_subprocess_exec('x')", ["create_subprocess_exec"]),
        ("import os\nos.fork()", ["fork"]),
    ],
)
def test_a_start_of_a_process_is_found(line: str, found: list[str]) -> None:
    assert list(starts_processes(ast.parse(line))) == found


@each("line", ["async def test(): pass", "import threading", "from socket import socket"])
def test_a_loop_or_a_thread_or_a_socket_is_found(line: str) -> None:
    assert list(needs_a_loop(ast.parse(line))) != []
