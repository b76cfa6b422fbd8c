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
_DEEDS = {
    "post": 12,
    "copy": 3,
    "invalid": 1,
    "mood": 4,
    "full": 0.5,
    "locked": 0.5,
    "hup": 0.3,
    "jump": 0.5,
    "retry": 2,
    "edit": 1,
    "purge": 0.3,
}


class Theme(NamedTuple):
    """What comes more often in a history, though anything may come. ``deeds``: how often, in proportion.
    ``delivery``: drawn settings of its section. ``poll_s``: how often letters are looked for."""

    deeds: dict[str, float]
    moods: tuple[str, ...] = tuple(MOODS)
    delivery: dict[str, tuple[Any, ...]] = {}  # noqa: RUF012 - nobody changes it
    poll_s: tuple[float, ...] = (5.0, 20.0)


_THEMES = {
    "anything": Theme({}),
    "letters": Theme(
        {"post": 5, "retry": 4, "edit": 3},
        ("flaky", "cutting", "partial", "doubting", "unavailable", "well"),
        {"max_attempts": (1, 1, 2), "circuit_threshold": (10_000,), "retry_ratio": (10.0,)},
        (1.0,),
    ),
    "order": Theme(
        {"post": 20},
        ("flaky", "partial", "small", "throttling", "cutting", "well"),
        {"max_attempts": (0,), "max_in_flight": (2, 5), "retry_ratio": (10.0,)},
    ),
    "lake": Theme({"jump": 4}, ("well", "flaky")),
    "disk": Theme({"full": 3, "locked": 3, "copy": 6}),
    "files": Theme({"post": 3}),
}


class Deed(NamedTuple):
    """``at_s``: since the life began. ``what``: one of ``life.py``'s. ``of``: what it is done with."""

    at_s: float
    what: str
    of: tuple[Any, ...] = ()


class LifePlan(NamedTuple):
    """``lines``: that come to the file before it is replayed; none: it is a service that producers post to.
    ``without``: the name of a sink that is not in its configuration; ``forget``: the spool forgets it then.
    ``rot``: before it, a chunk of the spool is damaged.
    ``end``: kill, power, kill write, power write (at a write, ``steps`` of them after ``end_s``), term.
    ``steps``: of the loop, or writes, after ``end_s``. ``pause_s``: then the next life begins."""

    deeds: tuple[Deed, ...]
    lines: int
    without: str
    forget: bool
    rot: bool
    end: str
    end_s: float
    steps: int
    pause_s: float
    disk_s: float
    memory_bytes: int
    settings: dict[str, dict[str, Any]]


class HistoryPlan(NamedTuple):
    """``new``: there is no state file yet when it begins. ``file``: the kind of file that is replayed, in
    chunks of ``chunk_bytes``, with a share of ``copies``; empty: none."""

    seed: int
    new: bool
    kinds: dict[str, Kind]
    ordered: bool
    lake: str
    lake_age_s: float
    file: str
    copies: float
    chunk_bytes: int
    lives: tuple[LifePlan, ...]

    @property
    def size(self) -> int:
        return len(self.kinds) + sum(1 + len(life.deeds) for life in self.lives)

    @property
    def knows_copies(self) -> bool:
        return bool(self.lives[0].settings["window"]["max_age"])

    @property
    def blocks_disk(self) -> bool:
        return any(deed.what in ("full", "locked") for life in self.lives for deed in life.deeds)

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}, ordered {self.ordered}, lake {self.lake or '-'}, file {self.file or '-'}"
        ]
        lines += [f"  sink {name}: {kind}" for name, kind in self.kinds.items()]
        for life in self.lives:
            work = f"replay of {life.lines} lines more" if life.lines else "service"
            work += f" without {life.without}" * bool(life.without)
            lines.append(f"  life: {work}, {life.end} at {life.end_s:.2f} s + {life.steps}, {life.settings}")
            lines += [
                f"    {deed.at_s:9.3f} {deed.what} {' '.join(map(str, deed.of))}" for deed in life.deeds
            ]
        return "\n".join(lines)


def draw(seed: int) -> HistoryPlan:
    rng = random.Random(seed)
    (name,) = rng.choices(tuple(_THEMES), (4, 2, 2, 2, 2, 2))
    theme = _THEMES[name]
    kinds = {}
    for sink in _NAMES[: rng.choice((1, 1, 2, 2, 3, 4))]:
        body, types = rng.choice(_KINDS)
        bad = rng.choice((-1, rng.randrange(13)))
        refuses = rng.choice(("named", "silent", "item"))
        kinds[sink] = Kind(types, body, bad, refuses, login=rng.random() < 0.2)
    if name == "files":
        kinds = _alike(kinds, random.Random(seed + 5))
    fixed = _fixed_settings(rng, theme)
    count = rng.choice((1, 1, 2, 2, 3))
    replays = 0.7 if name == "files" else 0.2 * (rng.random() < 0.2)
    lives = tuple(_life(rng, theme, kinds, fixed, replays) for _ in range(count))
    lives = tuple(_with_parks(life, kinds, rng) for life in lives)
    lives = _with_transforms(lives, kinds, random.Random(seed + 4))
    lake = rng.choice(("accepted", "delivered", *[""] * 4 * (name != "lake")))
    return HistoryPlan(
        seed,
        rng.random() < 0.15,
        kinds,
        ordered=name == "order" or rng.random() < 0.4,
        lake=lake,
        lake_age_s=rng.choice((0.2, 2.0, 300.0)) if name == "lake" else 2.0,
        file=rng.choice(("ndjson", "gzip")) if any(life.lines for life in lives) else "",
        copies=rng.choice((0.05, 0.6)),
        chunk_bytes=rng.choice((600, 3000, 256 * 1024)),
        lives=lives,
    )


def _alike(kinds: dict[str, Kind], rng: random.Random) -> dict[str, Kind]:
    """Of most replays several sinks take all events, in bodies of which one can be the others'."""
    if rng.random() < 0.2:
        return kinds
    several = dict.fromkeys(_NAMES[:2], kinds[_NAMES[0]]) | kinds
    bodies = {name: rng.choice(("api", "array", "api", "array", "")) for name in several}
    return {
        name: kind._replace(types=TYPES, body=bodies[name]) if bodies[name] else kind
        for name, kind in several.items()
    }


def _fixed_settings(rng: random.Random, theme: Theme) -> dict[str, dict[str, Any]]:
    """The same in all lives: what frozen batches and order stand on."""
    return {
        "window": {"max_age": rng.choice((2 * _DAY_S, 2 * _DAY_S, 2 * _DAY_S, 0.0))},
        "letters": {"retry": rng.random() < 0.7, "poll_interval": rng.choice(theme.poll_s)},
        "ingest": {"keep_rejected": rng.random() < 0.3, "wait_timeout": rng.choice((1.0, 30.0))},
    }


def _life(
    rng: random.Random, theme: Theme, kinds: dict[str, Kind], fixed: dict[str, dict[str, Any]], replays: float
) -> LifePlan:
    length_s = rng.choices((1.0, 10.0, 60.0, 300.0, 3600.0), (300, 450, 220, 26, 4))[0]
    deeds = [Deed(0.0, "mood", (name, *_mood(rng, theme))) for name in kinds if rng.random() < 0.6]
    times = [rng.random() ** 2 * length_s for _ in range(rng.randint(3, 14))]
    deeds += [Deed(at_s, *_deed(rng, theme, kinds)) for at_s in times]
    for deed in [deed for deed in deeds if deed.what in ("full", "locked")]:  # somebody comes just then
        deeds.append(Deed(deed.at_s + 0.1 * rng.random(), "post", (2, "")))
    delivery = {
        "max_in_flight": (1, 2, 5),
        "give_up_after": (3.0, 60.0, 900.0),
        "max_attempts": (0, 0, 0, 3),
        "circuit_threshold": (3, 10, 10_000),
        "backoff_base": (0.01, 0.5),
        "retry_ratio": (0.2, 10.0),
        "shutdown_timeout": (0.0, 1.0, 25.0),
    }
    settings = fixed | {
        "batch": {"max_events": rng.choice((2, 5, 50)), "max_age": rng.choice((0.0, 0.1, 1.0))},
        "delivery": {key: rng.choice(values) for key, values in (delivery | theme.delivery).items()},
    }
    end = rng.choices(("kill", "kill write", "power", "power write", "term"), (2, 2, 1, 2, 1))[0]
    lines = rng.choice((1, 15, 60)) if rng.random() < replays else 0
    end_s = length_s * rng.random() * (rng.random() if lines else 1.0)  # a replay may be done soon
    if rng.random() < 0.3:  # letters are on their way then
        at_s = max(0.0, end_s - 3 * rng.random())
        deeds += [Deed(at_s, "retry", (0.0,)), *(Deed(at_s, "mood", (sink, "well", 25.0)) for sink in kinds)]
    without = rng.choice(list(kinds)[1:]) if len(kinds) > 1 and rng.random() < 0.1 else ""
    return LifePlan(
        tuple(sorted(deeds)),
        lines,
        without,
        bool(without) and rng.random() < 0.7,
        rng.random() < 0.12,
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


def _with_transforms(
    lives: tuple[LifePlan, ...], kinds: dict[str, Kind], rng: random.Random
) -> tuple[LifePlan, ...]:
    """In some histories some sinks get other events than came, and what is made of them changes from life to
    life."""
    names = [name for name in kinds if rng.random() < 0.6] if rng.random() < 0.4 else []
    steps = {name: _steps(rng, 0) for name in names}
    drawn = []
    for number, life in enumerate(lives, 1):
        drawn.append(life._replace(settings=life.settings | {"transforms": steps}))
        steps = {name: rng.choice((steps[name], steps[name], _steps(rng, number), [])) for name in names}
    return tuple(drawn)


def _steps(rng: random.Random, number: int) -> list[dict[str, Any]]:
    """What a receiver reads of an event stays as it is. Some events are dropped, with some a step fails."""
    steps: list[dict[str, Any]] = [
        {"set": {"attributes.life": number}},
        {"redact": ["interactionId"], "secret": f"of {number}"},
        {"rename": {"schemaVersion": "meta.version"}, "when": {"eventType": ["call"]}},
        {"drop": True, "when": {"attributes": {"n": _some(rng)}}},
        {"set": {"eventType.no": "object"}, "when": {"attributes": {"n": _some(rng)}}},
        {"python": "ingestd.simulation.plan:as_they_are"},
    ]
    return rng.sample(steps, rng.randrange(1, len(steps)))


def _some(rng: random.Random) -> list[int]:
    return [*range(rng.randrange(17), 500, 17)]


def as_they_are(events: list[bytes]) -> list[bytes]:
    """A step that changes nothing."""
    return events


def _mood(rng: random.Random, theme: Theme) -> tuple[str, float]:
    return rng.choice(theme.moods), rng.choice((0.0, 0.0, 1.0, 25.0))


def _deed(rng: random.Random, theme: Theme, kinds: dict[str, Kind]) -> tuple[str, tuple[Any, ...]]:
    weights = _DEEDS | theme.deeds
    what = rng.choices(tuple(weights), tuple(weights.values()))[0]
    if what == "post":
        return what, (rng.choice((1, 1, 2, 7, 15)), rng.choice(("", "", "", "wait=delivered", "atomic=true")))
    if what == "mood":
        return what, (rng.choice(tuple(kinds)), *_mood(rng, theme))
    if what in ("full", "locked"):
        return what, (rng.choice((0.1, 3.0, 60.0)),)
    if what == "jump":
        return what, (rng.choice((-3600.0, -1.0, 60.0, 7200.0)),)
    if what == "invalid":
        return what, (rng.choice(("json", "field", "huge", "control")),)
    return what, (rng.random(),)
