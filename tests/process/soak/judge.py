"""What became of what was promised: the last word of every round."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.process.soak.api import SinkApi
from tests.process.soak.events import read

MOST_TOLD = 20  # of problems


@dataclass
class Verdict:
    """Counts of one round, or of several together. ``problems``: what is wrong, in words."""

    lives: int = 0
    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.out_of_order or self.problems)

    def add(self, other: "Verdict") -> None:
        for name in ("lives", "kills", "acknowledged", "lost", "doubled", "out_of_order"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.problems += other.problems

    def __str__(self) -> str:
        said = (
            f"lives {self.lives}, kills {self.kills}, acknowledged {self.acknowledged:,}, lost {self.lost}, "
            f"doubled {self.doubled}, out of order {self.out_of_order}"
        )
        more = len(self.problems) - MOST_TOLD
        return "\n  ".join([said, *self.problems[:MOST_TOLD], *([f"and {more} more"] if more > 0 else [])])


def judge(
    acknowledged: Sequence[bytes],
    sinks: Mapping[str, SinkApi],
    letters: Iterable[Mapping[str, Any]],
    *,
    ordered: Iterable[str],
    verdict: Verdict,
) -> Verdict:
    """Every acknowledged event has reached every sink once, or lies there as a dead letter.

    ``ordered``: sinks that keep the order of a group, which is that of the numbers in it.
    """
    verdict.acknowledged += len(acknowledged)
    kept = {(str(letter["sink"]), bytes(letter["payload"])) for letter in letters}
    for name, sink in sinks.items():
        verdict.problems += [f"{name}: {problem}" for problem in sink.problems]
        for event in acknowledged:
            seen = read(event)
            if seen.id not in sink.taken and (name, event) not in kept:
                verdict.lost += 1
                verdict.problems.append(f"{name}: {seen.id} is nowhere")
            if not seen.ill and (name, event) in kept:
                verdict.problems.append(f"{name}: {seen.id} is a dead letter, and nothing is wrong with it")
        for event_id, keys in sink.taken.items():
            if len(keys) > 1:
                verdict.doubled += 1
                verdict.problems.append(f"{name}: {event_id} was taken under {keys}")
        if name in ordered:
            for group, numbers in sink.order.items():
                if numbers != sorted(numbers):
                    verdict.out_of_order += 1
                    verdict.problems.append(f"{name}: {group} came as {_break(numbers)}")
    return verdict


def balance(ledger: Mapping[str, int], verdict: Verdict) -> None:
    ends = ("delivered", "duplicate", "rejected", "dead_lettered", "in_flight")
    if ledger["accepted"] != sum(ledger[name] for name in ends):
        verdict.problems.append(f"the ledger does not balance: {dict(ledger)}")
    if ledger["in_flight"]:
        verdict.problems.append(f"{ledger['in_flight']} events have no end")


def _break(numbers: Sequence[int]) -> str:
    """Where the order breaks, with what stands around it."""
    at = next(n for n in range(1, len(numbers)) if numbers[n] < numbers[n - 1])
    return " ".join(map(str, ["…", *numbers[max(0, at - 3) : at + 3], "…"]))
