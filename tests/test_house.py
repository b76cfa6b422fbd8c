"""The house rules that a machine can keep: who may import whom, what is pure, how long a file may be."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "ingestd"
MODULES = sorted(ROOT.rglob("*.py"))
MIDDLE = {
    *("pipeline", "branches", "branch", "lakes", "lake", "sink_types", "sink_book", "bookkeeping"),
    *("intake", "recovery", "letters", "letter_desk", "admin", "producers", "confirming"),
}
MIDDLE |= {"lake"}
PEERS = {"sources", "delivery", "store", "sinks", "stages"}
BASE = {"core", "__init__"}
BELOW_MIDDLE = PEERS | {"transport", "schemas", "config"} | BASE

# room -> rooms it may import besides itself; ``sinks.sink`` is the one module of its room, the protocol
MAY = {
    "cli": {"service", "sandbox", "checks", "control", "log"} | MIDDLE | BELOW_MIDDLE,
    "service": {"control", "log"} | MIDDLE | BELOW_MIDDLE,
    "checks": {"producers", "sink_types", "sinks.sink", "stages", "transport", "schemas", "config"} | BASE,
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
from ingestd.cli.main import cli
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
    assert statistics.median(seconds) < 0.2


@pytest.mark.parametrize("command", ["replay", "check", "config", "dlq", "targets", "plan", "apply"])
def test_the_help_of_a_command_imports_no_network(command: str) -> None:
    code = f"""
import sys
from ingestd.cli.main import cli
cli.main(["{command}", "--help"], standalone_mode=False)
assert not {{"aiohttp", "httpx", "pydantic", "uvloop"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
