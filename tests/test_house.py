"""The house rules that a machine can keep: who may import whom, what is pure, how long a file may be."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import patience

ROOT = Path(__file__).parents[1] / "ingestd"
MODULES = sorted(ROOT.rglob("*.py"))
MIDDLE = {
    *("pipeline", "branches", "branch", "lakes", "lake", "sink_types", "sink_book", "bookkeeping"),
    *("intake", "recovery", "letters", "letter_desk", "retried_letters", "admin", "producers"),
    *("confirming", "clients", "order_keys", "answer_notes"),
}
MIDDLE |= {"lake"}
PEERS = {"sources", "delivery", "store", "sinks", "stages"}
BASE = {"core", "__init__"}
BELOW_MIDDLE = PEERS | {"transport", "schemas", "config"} | BASE

# room -> rooms it may import besides itself; ``sinks.sink`` is the one module of its room, the protocol
MAY = {
    "cli": {"service", "sandbox", "checks", "control", "log"} | MIDDLE | BELOW_MIDDLE,
    "service": {"control", "log"} | MIDDLE | BELOW_MIDDLE,
    "checks": {"producers", "clients", "sink_types", "sinks.sink", "stages", "store", "transport", "schemas"}
    | {"config"}
    | BASE,
    **dict.fromkeys(MIDDLE, MIDDLE | BELOW_MIDDLE),
    **dict.fromkeys(PEERS, {"transport", "schemas"} | BASE),
    "delivery": {"sinks.sink", "transport", "schemas"} | BASE,
    "control": {"transport", "schemas", "stages"} | BASE,
    "sandbox": {"schemas"} | BASE,
    "transport": BASE,
    "schemas": BASE,
    "config": BASE,
    "log": BASE,
    "core": {"__init__"},
    "__init__": set[str](),
}
IO = {
    *("aiohttp", "aiosqlite", "anyio", "asyncio", "httpx", "os", "pathlib", "select", "shutil", "signal"),
    *("socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "urllib.request"),
}
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_go_downwards_only(path: Path) -> None:
    room = room_of(path)
    for name in imports(ast.parse(path.read_text())):
        top, *parts = name.split(".")
        if top == "ingestd":
            target = (
                parts[0] if (ROOT / parts[0]).is_dir() or (ROOT / f"{parts[0]}.py").exists() else "__init__"
            )
            allowed = target == room or target in MAY[room] or ".".join(parts[:2]) in MAY[room]
            assert allowed, f"{room} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_stages_sinks_and_core_do_no_input_or_output(path: Path) -> None:
    if room_of(path) in {"stages", "sinks", "core"}:
        tree = ast.parse(path.read_text())
        clock = {"asyncio"} if path.name == "clock.py" else set[str]()
        used = {name for name in imports(tree) for i in IO if name == i or name.startswith(i + ".")}
        assert {name.split(".")[0] for name in used} <= clock
        assert not [
            n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in {"open", "print", "input"}
        ]


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_no_module_is_longer_than_350_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350


def test_every_room_has_its_rule() -> None:
    assert {room_of(path) for path in MODULES} == MAY.keys()


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    heavy = "{'aiohttp', 'aiosqlite', 'anyio', 'asyncio', 'httpx', 'msgspec', 'pydantic', 'rich', 'uvloop'}"
    code = f"""
import resource, sys
from ingestd.cli.group import cli
cli.main(["--help"], standalone_mode=False)
used = resource.getrusage(resource.RUSAGE_SELF)
print(sorted({heavy} & set(sys.modules)), used.ru_utime + used.ru_stime, file=sys.stderr)
"""
    seconds = []
    for _ in range(5):
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "replay" in shown.stdout
        loaded, _, spent = shown.stderr.strip().rpartition(" ")
        assert loaded == "[]"
        seconds.append(float(spent))
    assert statistics.median(seconds) < patience(0.2)


@pytest.mark.parametrize("command", ["replay", "check", "config", "dlq", "targets", "plan", "apply"])
def test_the_help_of_a_command_imports_no_network(command: str) -> None:
    code = f"""
import sys
from ingestd.cli.group import cli
cli.main(["{command}", "--help"], standalone_mode=False)
assert not {{"aiohttp", "httpx", "pydantic", "uvloop"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


# --- limits of time in tests follow the machine (tests/machine.py) ---

TESTS = ROOT.parent / "tests"
WAITS = {"timeout", "fail_after", "wait_for", "communicate", "run", "check_output", "urlopen", "wait", "get"}
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time"}


def seconds(node: ast.AST) -> float | None:
    """A limit that is written as a number of seconds; less than one is for a wait that is to end that way."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value >= 1:
        return float(node.value)
    return None


def fixed_limits(tree: ast.AST) -> Iterator[int]:
    """Lines that let a machine that is slow enough fail."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAITS:
            given = [word.value for word in node.keywords if word.arg == "timeout"]
            if node.func.attr in {"timeout", "fail_after"}:
                given += node.args[:1]
            if node.func.attr == "wait_for":
                given += node.args[1:]
            yield from (one.lineno for one in given if seconds(one) is not None)
        elif isinstance(node, ast.Compare) and isinstance(node.ops[-1], ast.Lt | ast.LtE):
            called = {
                n.func.attr for n in ast.walk(node) if isinstance(n, ast.Call) and hasattr(n.func, "attr")
            }
            if called & CLOCKS and isinstance(node.comparators[-1], ast.Constant):
                yield node.lineno
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and "DEADLINE" in target.id and seconds(node.value) is not None:
                yield node.lineno


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_limits_of_time_in_tests_follow_the_machine(path: Path) -> None:
    assert list(fixed_limits(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "line",
    [
        "async with asyncio.timeout(5): pass",
        "await asyncio.wait_for(task, 5)",
        "subprocess.run(words, timeout=30)",
        "assert 0.5 <= time.monotonic() - started < 3.0",
        "DEADLINE_S = 20.0",
    ],
)
def test_a_fixed_limit_is_found(line: str) -> None:
    assert list(fixed_limits(ast.parse(f"async def test():\n    {line}"))) == [2]
