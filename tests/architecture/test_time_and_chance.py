"""Time, chance and ids come from what a module is given: a ``Clock``, a ``random.Random``, a maker of ids."""

import ast
from collections.abc import Iterator

from tests.architecture.modules import modules, nodes_of, room_of, tree_of
from tests.each import each

NOT_SIMULATED = {"cli", "sandbox", "httpd", "admin", "telemetry", "simulation"}
"""Rooms outside of what a simulation runs: the terminal, a server of its own, sockets, the process;
itself."""
STILL_PAST_THE_CLOCK = {
    # commands wait for other processes, in real time
    "ingestd.store.letter_changes": {"time.monotonic", "time.sleep"},
    "ingestd.store.lock": {"time.monotonic", "time.sleep"},
}
"""What modules still take past that. The list may only get shorter."""

THE_ONE_PLACE = "ingestd.core.clock"
CALLS = {
    *("time.monotonic", "time.time", "time.time_ns", "time.monotonic_ns", "time.perf_counter", "time.sleep"),
    *("asyncio.sleep", "asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for"),
    *("anyio.sleep", "anyio.move_on_after", "anyio.fail_after", "anyio.current_time"),
    *("uuid.uuid1", "uuid.uuid4", "os.urandom", "datetime.now", "datetime.utcnow", "random.SystemRandom"),
}
TIMERS = {"call_later", "call_at"}


def past_the_clock(tree: ast.AST) -> Iterator[str]:
    """What is called, or handed on, by name. ``clock.call_later`` is the way; that of a loop is past it."""
    for node in nodes_of(tree, ast.Attribute):
        owner = node.value
        name = f"{owner.id}.{node.attr}" if isinstance(owner, ast.Name) else node.attr
        if name in CALLS or (name.startswith("random.") and node.attr.islower()):
            yield name
        elif node.attr in TIMERS and not ast.unparse(owner).endswith("clock"):
            yield node.attr
        elif node.attr == "time" and "loop" in ast.unparse(owner):
            yield "loop.time"
    for call in nodes_of(tree, ast.Call):
        if not call.args and ast.unparse(call.func) == "random.Random":
            yield "random.Random"


def test_time_and_chance_come_from_what_is_passed_in() -> None:
    offenders = {
        module: found
        for module, path in modules().items()
        if module != THE_ONE_PLACE
        and room_of(module) not in NOT_SIMULATED
        and (found := set(past_the_clock(tree_of(path))))
    }
    assert offenders == STILL_PAST_THE_CLOCK


@each(
    ("line", "found"),
    [
        ("time.monotonic()", "time.monotonic"),
        ("started = field(default_factory=time.monotonic)", "time.monotonic"),
        ("random.uniform(1, 2)", "random.uniform"),
        ("random.Random()", "random.Random"),
        ("asyncio.get_running_loop().call_later(1, f)", "call_later"),
        ("self._loop.time()", "loop.time"),
        ("anyio.move_on_after(1)", "anyio.move_on_after"),
        ("datetime.now(UTC)", "datetime.now"),
    ],
)
def test_what_goes_past_the_clock_is_found(line: str, found: str) -> None:
    assert list(past_the_clock(ast.parse(line))) == [found]


@each("line", ["random.Random(seed)", "self._clock.call_later(1, f)", "clock.sleep(1)", "rng: random.Random"])
def test_what_is_passed_in_is_no_offence(line: str) -> None:
    assert list(past_the_clock(ast.parse(line))) == []
