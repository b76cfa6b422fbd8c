"""A life finds the state file and its log as the one before left them, whoever looks at them in between."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ingestd.simulation.disk import LOG_NAME
from ingestd.simulation.history import Simulator
from ingestd.simulation.plan import draw
from ingestd.simulation.world import SimulatedWorld
from ingestd.store.connection import FILE_NAME, connect

PAYLOAD = b'[{"n":7}]'


def test_a_start_after_a_kill_finds_the_log(simulated: Simulator) -> None:
    found = [
        bytes_in_log for seed in range(12) for bytes_in_log in _after_kills(simulated.run(draw(seed)).trace)
    ]

    assert len(found) > 10
    assert sum(size > 0 for size in found) > len(found) / 2  # some are killed before they write anything


def test_who_looks_between_two_lives_changes_nothing(simulated: Simulator, tmp_path: Path) -> None:
    with _killed(simulated, tmp_path) as world:
        before = _files(world)
        world.look_at_letters()

        assert len(before[LOG_NAME]) > len(PAYLOAD)
        assert _files(world) == before


def test_a_chunk_is_damaged_and_the_log_stays(simulated: Simulator, tmp_path: Path) -> None:
    with _killed(simulated, tmp_path) as world:
        before = _files(world)
        world.before(world.plan.lives[0]._replace(rot=True, forget=False))
        after = _files(world)

        assert after[FILE_NAME] == before[FILE_NAME]
        assert after[LOG_NAME].startswith(before[LOG_NAME])
        with closing(connect(world.disk.directory / FILE_NAME)) as connection:
            [(payload,)] = connection.execute("SELECT payload FROM spool")
        assert payload != PAYLOAD


@contextmanager
def _killed(simulated: Simulator, root: Path) -> Iterator[SimulatedWorld]:
    """After a ``kill -9`` of a process that had spooled a chunk."""
    world = SimulatedWorld(draw(0), root, simulated.sqlite, simulated.content)
    try:
        with closing(connect(world.disk.directory / FILE_NAME)) as connection:
            connection.execute("INSERT INTO spool VALUES (1, 0, 1, 9, 0, x'', ?, '')", (PAYLOAD,))
            world.disk.end_life(power_cut=False)
        world.disk.begin_life()
        yield world
    finally:
        world.disk.close()


def _files(world: SimulatedWorld) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in world.disk.directory.iterdir()}


def _after_kills(trace: list[str]) -> Iterator[int]:
    """How much is in the log at each start after a kill or a power cut."""
    killed = False
    for line in trace:
        if match := re.search(r"  (\d+) bytes are in the log$", line):
            if killed:
                yield int(match[1])
            killed = False
        killed |= line.endswith(("  kill -9", "  power cut"))
