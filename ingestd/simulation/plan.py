"""What is drawn from a seed: a configuration, and lives with deeds in them. Plain data, so that it can be cut
down to the shortest history that still fails."""

import random
from typing import Any, NamedTuple

from ingestd.simulation.receivers import MOODS, Kind

TYPES = ("call", "chat", "email")
_KINDS = (
    ("api", TYPES),
    ("array", TYPES),
    ("event", ("call",)),
    ("ndjson", ("call", "chat")),
    ("array", ("chat",)),
    ("confirmed", ("call", "email")),
)
_NAMES = ("north", "east", "south", "west")
_DAY_S = 86_400.0


class Deed(NamedTuple):
    """``at_s``: since the life began. ``what``: one of ``life.py``'s. ``of``: what it is done with."""

    at_s: float
    what: str
    of: tuple[Any, ...] = ()


class LifePlan(NamedTuple):
    """``end``: kill, power, kill write, power write (at a write, ``steps`` of them after ``end_s``), term.
    ``steps``: of the loop, or writes, after ``end_s``. ``pause_s``: then the next life begins."""

    deeds: tuple[Deed, ...]
    end: str
    end_s: float
    steps: int
    pause_s: float
    disk_s: float
    memory_bytes: int
    settings: dict[str, dict[str, Any]]


class HistoryPlan(NamedTuple):
    seed: int
    kinds: dict[str, Kind]
    ordered: bool
    lake: str
    lives: tuple[LifePlan, ...]

    @property
    def size(self) -> int:
        return len(self.kinds) + sum(1 + len(life.deeds) for life in self.lives)

    @property
    def blocks_disk(self) -> bool:
        return any(deed.what in ("full", "locked") for life in self.lives for deed in life.deeds)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, ordered {self.ordered}, lake {self.lake or 'none'}"]
        lines += [f"  sink {name}: {kind}" for name, kind in self.kinds.items()]
        for life in self.lives:
            lines.append(f"  life: {life.end} at {life.end_s:.2f} s + {life.steps}, {life.settings}")
            lines += [
                f"    {deed.at_s:9.3f} {deed.what} {' '.join(map(str, deed.of))}" for deed in life.deeds
            ]
        return "\n".join(lines)


def draw(seed: int) -> HistoryPlan:
    rng = random.Random(seed)
    count = rng.choice((1, 1, 2, 2, 3, 4))
    kinds = {}
    for name in _NAMES[:count]:
        body, types = rng.choice(_KINDS)
        bad = rng.choice((-1, rng.randrange(13)))
        kinds[name] = Kind(types, body, bad, rng.choice(("named", "silent", "item")))
    fixed = _fixed_settings(rng)
    lives = tuple(_life(rng, kinds, fixed) for _ in range(rng.choice((1, 1, 2, 2, 3))))
    aside = random.Random(f"parked by {seed}")  # its own chance: all else stays what the seed always drew
    lives = tuple(_with_parks(life, kinds, aside) for life in lives)
    return HistoryPlan(
        seed, kinds, rng.random() < 0.5, rng.choice(("", "", "", "accepted", "delivered")), lives
    )


def _fixed_settings(rng: random.Random) -> dict[str, dict[str, Any]]:
    """The same in all lives: what frozen batches and order stand on."""
    return {
        "window": {"max_age": 2 * _DAY_S},
        "letters": {"retry": rng.random() < 0.7, "poll_interval": rng.choice((1.0, 5.0))},
        "ingest": {"keep_rejected": rng.random() < 0.3, "wait_timeout": rng.choice((1.0, 30.0))},
    }


def _life(rng: random.Random, kinds: dict[str, Kind], fixed: dict[str, dict[str, Any]]) -> LifePlan:
    length_s = rng.choices((1.0, 10.0, 60.0, 300.0, 3600.0), (300, 450, 220, 26, 4))[0]
    deeds = [Deed(0.0, "mood", (name, *_mood(rng))) for name in kinds if rng.random() < 0.6]
    times = [rng.random() ** 2 * length_s for _ in range(rng.randint(3, 14))]
    deeds += [Deed(at_s, *_deed(rng, kinds)) for at_s in times]
    settings = fixed | {
        "batch": {"max_events": rng.choice((2, 5, 50)), "max_age": rng.choice((0.0, 0.1, 1.0))},
        "delivery": {
            "max_in_flight": rng.choice((1, 2, 5)),
            "give_up_after": rng.choice((3.0, 60.0, 900.0)),
            "max_attempts": rng.choice((0, 0, 0, 3)),
            "circuit_threshold": rng.choice((3, 10, 10_000)),
            "backoff_base": rng.choice((0.01, 0.5)),
            "retry_ratio": rng.choice((0.2, 10.0)),
            "shutdown_timeout": rng.choice((0.0, 1.0, 25.0)),
        },
    }
    end = rng.choices(("kill", "kill write", "power", "power write", "term"), (2, 2, 1, 2, 1))[0]
    end_s = length_s * rng.random()
    if rng.random() < 0.3:  # letters are on their way then
        deeds.append(Deed(max(0.0, end_s - rng.random()), "retry", (0.0,)))
    return LifePlan(
        tuple(sorted(deeds)),
        end,
        end_s,
        int(rng.random() ** 2 * 120),
        rng.choice((0.0, 1.0, 1.0, 90.0, 3600.0)),
        rng.choice((0.0, 0.001, 0.02, 0.5)),
        rng.choice((0, 1_000, 16_000_000)),
        settings,
    )


def _with_parks(life: LifePlan, kinds: dict[str, Kind], rng: random.Random) -> LifePlan:
    """Some sinks are parked by a person, or have a bound."""
    deeds = [*life.deeds]
    if rng.random() < 0.25:
        deeds += [
            Deed(life.end_s * rng.random(), "park", (rng.random(),)) for _ in range(rng.choice((1, 2, 3)))
        ]
    bounds = {
        name: {
            "max_backlog": rng.choice((1024, 4096, None)),
            "max_backlog_age": rng.choice((2.0, 60.0, None)),
            "when_full": rng.choice(("wait", "park")),
        }
        for name in kinds
        if rng.random() < 0.2
    }
    spool = {"ballast": 0, "max_bytes": 1024**2, "max_parked": rng.choice((0, 1024**2))}
    return life._replace(
        deeds=tuple(sorted(deeds)), settings=life.settings | {"bounds": bounds, "spool": spool}
    )


def _mood(rng: random.Random) -> tuple[str, float]:
    return rng.choice(list(MOODS)), rng.choice((0.0, 0.0, 1.0, 25.0))


def _deed(rng: random.Random, kinds: dict[str, Kind]) -> tuple[str, tuple[Any, ...]]:
    what = rng.choices(
        ("post", "copy", "invalid", "mood", "full", "locked", "hup", "jump", "retry", "edit", "purge"),
        (12, 3, 1, 4, 0.5, 0.5, 0.3, 0.5, 2, 1, 0.3),
    )[0]
    if what == "post":
        return what, (rng.choice((1, 1, 2, 7, 15)), rng.choice(("", "", "", "wait=delivered", "atomic=true")))
    if what == "mood":
        return what, (rng.choice(list(kinds)), *_mood(rng))
    if what in ("full", "locked"):
        return what, (rng.choice((0.1, 3.0, 60.0)),)
    if what == "jump":
        return what, (rng.choice((-3600.0, -1.0, 60.0, 7200.0)),)
    if what == "invalid":
        return what, (rng.choice(("json", "field", "huge", "control")),)
    return what, (rng.random(),)
