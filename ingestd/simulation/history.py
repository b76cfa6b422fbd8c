"""A history from a plan: lives one after the other, then one in which everything is well, and judgement."""

import gc
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ingestd.simulation.life import Life
from ingestd.simulation.loop import Stuck
from ingestd.simulation.plan import HistoryPlan, LifePlan
from ingestd.simulation.sqlite_vfs import SqliteDisk
from ingestd.simulation.trace import Violation
from ingestd.simulation.world import SimulatedWorld
from ingestd.store.connection import FILE_NAME, connect
from ingestd.store.parked_sinks import set_parked

_MEMORY = Path("/dev/shm")  # noqa: S108 - what is left after a cut need not be synced again


class Outcome(NamedTuple):
    """``broken``: the promise, or empty. ``lives``: how many there were."""

    broken: str
    lives: int
    trace: list[str]


@dataclass(slots=True)
class Simulator:
    """Runs plans, one after the other, in this process. ``content``: of a state file that is new."""

    sqlite: SqliteDisk
    content: bytes

    def run(self, plan: HistoryPlan) -> Outcome:
        root = Path(tempfile.mkdtemp(prefix="ingestd-simulation-", dir=_MEMORY if _MEMORY.is_dir() else None))
        world = SimulatedWorld(plan, root, self.sqlite, b"" if plan.new else self.content)
        broken, lives = "", 0
        try:
            final = len(all_lives := (*plan.lives, *_last(plan))) - 1
            for number, life in enumerate(all_lives):
                world.trace.note(f"life {number + 1}")
                lives += 1
                last = number >= len(plan.lives)
                if last:
                    _make_well(world)
                world.before(life)
                Life(world, life, last=last).live()
                world.disk.begin_life()
                world.clock.wall_s += life.pause_s
                if number < final:
                    world.look_at_letters()
            world.check_end()
        except (Violation, Stuck) as error:
            broken = str(error)
        except Exception as error:
            broken = f"{type(error).__name__}: {error}"
            world.trace.note(broken)
        finally:
            world.disk.close()
            shutil.rmtree(root, ignore_errors=True)
        return Outcome(broken, lives, world.trace.lines)


@cache
def _disk() -> SqliteDisk:
    """The one of the process: SQLite keeps a list of all that it was ever given, and goes through it."""
    return SqliteDisk()


@contextmanager
def simulator() -> Iterator[Simulator]:
    """SQLite's disk is ours meanwhile, and the log is still."""
    sqlite = _disk()
    logger = logging.getLogger("ingestd")
    level, handlers, up = logger.level, logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    logger.setLevel(logging.CRITICAL)
    quiet = logging.getLogger("asyncio")
    level_before = quiet.level
    quiet.setLevel(logging.CRITICAL)
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.set_threshold(50_000, 20, 100)
    gc.freeze()  # else each collection goes through all that was imported
    try:
        with sqlite.installed():
            yield Simulator(sqlite, _new_file())
    finally:
        if not frozen:  # by somebody who wants it to stay so
            gc.unfreeze()
        gc.set_threshold(*threshold)
        quiet.setLevel(level_before)
        logger.setLevel(level)
        logger.handlers, logger.propagate = handlers, up


def _new_file() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        connect(Path(name) / FILE_NAME).close()
        return (Path(name) / FILE_NAME).read_bytes()


def _make_well(world: SimulatedWorld) -> None:
    world.disk.full = False
    for name in world.parked:
        set_parked(world.disk.directory, name, None)
    world.parked.clear()
    for receiver in world.receivers.values():
        receiver.mood, receiver.slow_s = "well", 0.0


def _last(plan: HistoryPlan) -> list[LifePlan]:
    """What was left of the file is replayed, and the service delivers the rest."""
    settings = plan.lives[-1].settings
    delivery = settings["delivery"] | {"shutdown_timeout": 60.0}
    letters = settings["letters"] | {"poll_interval": 20.0}  # it may last for an hour
    service = plan.lives[-1]._replace(
        deeds=(),
        lines=0,
        without="",
        forget=False,
        rot=False,
        end="term",
        pause_s=0.0,
        disk_s=0.001,
        settings=settings | {"delivery": delivery, "letters": letters},
    )
    return [service._replace(lines=1), service] if plan.file else [service]


def shrink(plan: HistoryPlan, fails: Callable[[HistoryPlan], bool], *, tries: int = 300) -> HistoryPlan:
    """The shortest history that is found to fail still, in so many tries."""
    left = tries
    progress = True
    while progress and left > 0:
        progress = False
        for smaller in _smaller(plan):
            left -= 1
            if fails(smaller):
                plan, progress = smaller, True
                break
            if left <= 0:
                break
    return plan


def _smaller(plan: HistoryPlan) -> Iterator[HistoryPlan]:
    """Large cuts first."""
    for index in range(len(plan.lives)):
        if len(plan.lives) > 1:
            yield plan._replace(lives=plan.lives[:index] + plan.lives[index + 1 :])
    for name in plan.kinds:
        if len(plan.kinds) > 1:
            yield plan._replace(kinds={one: kind for one, kind in plan.kinds.items() if one != name})
    if plan.lake:
        yield plan._replace(lake="")
    for index, life in enumerate(plan.lives):
        for deeds in _fewer(life.deeds):
            lives = list(plan.lives)
            lives[index] = life._replace(deeds=deeds)
            yield plan._replace(lives=tuple(lives))
    for index, life in enumerate(plan.lives):
        if life.steps > 1:
            lives = list(plan.lives)
            lives[index] = life._replace(steps=life.steps // 2)
            yield plan._replace(lives=tuple(lives))


def _fewer(deeds: tuple) -> Iterator[tuple]:  # type: ignore[type-arg]
    size = len(deeds)
    step = size // 2
    while step:
        for start in range(0, size, step):
            yield deeds[:start] + deeds[start + step :]
        step //= 2
