"""What tests of a tier may do: see docs/contributing.md."""

import ast
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
    "tests.slow": "measures what a test costs",
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
    for node in nodes_of(tree):
        if isinstance(node, ast.Attribute) and node.attr in PROCESS_CALLS:
            yield node.attr


def needs_a_loop(tree: ast.Module) -> Iterator[str]:
    yield from starts_processes(tree)
    yield from _imports(tree, LOOPS)
    for node in nodes_of(tree):
        if isinstance(node, ast.AsyncFunctionDef):
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
