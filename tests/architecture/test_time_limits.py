"""Limits of time in tests follow the machine (``tests/machine.py``)."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.modules import nodes_of, tree_of
from tests.each import each

TESTS = Path(__file__).parents[1]
WAITS = {"timeout", "fail_after", "wait_for", "communicate", "run", "check_output", "urlopen", "wait", "get"}
NEED_A_LIMIT = {"AsyncClient", "Client", "get", "post"}
"""Of httpx; they have one of their own: five seconds."""
ASSIGN: tuple[type[ast.Assign | ast.AnnAssign], ...] = (ast.Assign, ast.AnnAssign)
TOOK = {"seconds", "elapsed", "elapsed_s", "took", "took_s"}
CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time"}


def seconds(node: ast.AST) -> float | None:
    """A limit that is written as a number of seconds; less than one is for a wait that is to end that way."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value >= 1:
        return float(node.value)
    return None


def has_only_its_own(node: ast.Call) -> bool:
    match node.func:
        case ast.Attribute(ast.Name("httpx"), name):
            return name in NEED_A_LIMIT and "timeout" not in {word.arg for word in node.keywords}
    return False


def is_a_duration(node: ast.AST) -> bool:
    """How long something took, by its name; not a figure that the test itself has made."""
    match node:
        case ast.Name(name) | ast.Attribute(_, name) | ast.Subscript(_, ast.Constant(str(name))):
            return name in TOOK
    return False


def is_a_number(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return is_a_number(node.left) or is_a_number(node.right)
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def calls_a_clock(node: ast.Compare) -> bool:
    return any(getattr(call.func, "attr", "") in CLOCKS for call in nodes_of(node, ast.Call))


def fixed_limits(tree: ast.AST) -> Iterator[int]:
    """Lines that let a machine that is slow enough fail."""
    for node in nodes_of(tree, ast.Call):
        if has_only_its_own(node):
            yield node.lineno
        elif isinstance(node.func, ast.Attribute) and node.func.attr in WAITS:
            given = [word.value for word in node.keywords if word.arg == "timeout"]
            if node.func.attr in {"timeout", "fail_after"}:
                given += node.args[:1]
            if node.func.attr == "wait_for":
                given += node.args[1:]
            yield from (one.lineno for one in given if seconds(one) is not None)
    for one in nodes_of(tree, ast.Compare):
        if isinstance(one.ops[-1], ast.Lt | ast.LtE):
            limit, measured = one.comparators[-1], [one.left, *one.comparators][-2]
            own = is_a_duration(measured) and is_a_number(limit)
            if own or (isinstance(limit, ast.Constant) and calls_a_clock(one)):
                yield one.lineno
    for kind in ASSIGN:
        for assigned in nodes_of(tree, kind):
            target = assigned.targets[0] if isinstance(assigned, ast.Assign) else assigned.target
            if (
                isinstance(target, ast.Name)
                and "DEADLINE" in target.id
                and assigned.value
                and seconds(assigned.value) is not None
            ):
                yield assigned.lineno


def test_limits_of_time_in_tests_follow_the_machine() -> None:
    offenders = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        for line in fixed_limits(tree_of(path))
    ]
    assert offenders == []


@each(
    "line",
    [
        "async with asyncio.timeout(5): pass",
        "await asyncio.wait_for(task, 5)",
        "subprocess.run(words, timeout=30)",
        "async with httpx.AsyncClient(trust_env=False) as client: pass",
        "assert 0.5 <= time.monotonic() - started < 3.0",
        "DEADLINE_S = 20.0",
        "assert 0 < answer.seconds < 10",
        "assert report['seconds'] < 5",
        "assert took_s < 10 + 20e-6 * len(body)",
    ],
)
def test_a_fixed_limit_is_found(line: str) -> None:
    assert list(fixed_limits(ast.parse(f"async def test():\n    {line}"))) == [2]


def measured_times(tree: ast.AST) -> Iterator[int]:
    """Lines with an assertion on what the clock of the machine says now."""
    for node in nodes_of(tree, ast.Assert):
        calls = {ast.unparse(call.func) for call in nodes_of(node.test, ast.Call)}
        if {"time.monotonic", "monotonic", "time.perf_counter", "perf_counter"} & calls:
            yield node.lineno


def test_no_test_judges_a_clock_by_the_time_that_it_takes_itself() -> None:
    offenders = [
        f"{path.relative_to(TESTS)}:{line}"
        for tier in ("unit", "contract", "integration")
        for path in sorted((TESTS / tier).rglob("*.py"))
        for line in measured_times(tree_of(path))
    ]
    assert offenders == [], "pass a clock in, or end what must not take long with asyncio.timeout"
