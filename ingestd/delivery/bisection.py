"""Finding the events that a refusal (400, 422) is about when its body names none. Pure.

Halves are sent until the bad events stand alone. Where nothing at all is accepted, that would cost
two requests for every event of the stream; so after three levels without one acceptance, single
events from all over the batch are tried, and if every one of them is refused, the rest is given up
as a group and says so. A lane that has just seen that begins the next batch with the singles.
"""

from dataclasses import dataclass, field

from ingestd.core.batch import Batch

_LEVELS = 3
_SAMPLES = 32
_SAMPLES_AGAIN = 8
GROUP_NOTE = "every event of its batch that was sent alone was refused; this one was not tried alone: "


@dataclass(slots=True)
class Step:
    """What to do now, in this order: note the ``cuts`` (a batch and the parts its events are in now),
    ``send``, and give up ``bury``, and ``untried``: events that were not tried alone."""

    cuts: list[tuple[Batch, list[Batch]]] = field(default_factory=list)
    send: list[Batch] = field(default_factory=list)
    bury: list[Batch] = field(default_factory=list)
    untried: list[Batch] = field(default_factory=list)


class Bisection:
    """One refused batch and the parts it was cut into. The lane feeds it what became of each part."""

    def __init__(self, *, expect_all: bool = False) -> None:
        self._expect_all = expect_all
        self._accepted = False
        self._sampling = False
        self._out: dict[str, int] = {}  # part -> level
        self._held: list[Batch] = []
        self.gave_up = False

    @property
    def found_good(self) -> bool:
        return self._accepted

    def refused(self, part: Batch) -> Step:
        """``part`` was refused, without a name. The first call is for the batch itself."""
        level = self._out.pop(part.id, 0)
        step = Step()
        if len(part) == 1:
            step.bury.append(part)
        elif self._accepted or len(part) <= 2 * _SAMPLES_AGAIN or self._may_halve(level):
            self._halve(part, level, step)
        else:
            self._held.append(part)
        return self._next(step)

    def accepted(self, part: Batch) -> Step:
        """``part`` was taken, or its answer named the culprits: not everything is refused."""
        self._accepted = True
        return self.ended(part)

    def ended(self, part: Batch) -> Step:
        """``part`` came to an end that says nothing about refusals."""
        self._out.pop(part.id, None)
        return self._next(Step())

    def take_held(self) -> list[Batch]:
        """The parts that wait for the answers to others, no longer held."""
        held, self._held = self._held, []
        return held

    def _may_halve(self, level: int) -> bool:
        return level < _LEVELS and not (level == 0 and self._expect_all)

    def _next(self, step: Step) -> Step:
        """What is held back is decided on with the first acceptance, or when the last answer is in."""
        if self._accepted:
            for part in self.take_held():
                self._halve(part, _LEVELS, step)
        elif self._held and not self._out:
            if self._sampling:
                step.untried = self.take_held()
                self.gave_up = True
            else:
                self._sampling = True
                self._sample(step)
        return step

    def _halve(self, part: Batch, level: int, step: Step) -> None:
        middle = len(part) // 2
        halves = [part.part(range(middle)), part.part(range(middle, len(part)))]
        step.cuts.append((part, halves))
        step.send += [self._open(half, level + 1) for half in halves]

    def _sample(self, step: Step) -> None:
        """Single events, evenly from all that is held; the others are held on."""
        share = max(1, (_SAMPLES_AGAIN if self._expect_all else _SAMPLES) // len(self._held))
        rest: list[Batch] = []
        for part in self._held:
            chosen = range(0, len(part), max(1, len(part) // share))[:share]
            singles = [self._open(part.part([i]), _LEVELS) for i in chosen]
            others = part.part([i for i in range(len(part)) if i not in chosen])
            step.cuts.append((part, [*singles, others]))
            step.send += singles
            rest.append(others)
        self._held = rest

    def _open(self, part: Batch, level: int) -> Batch:
        part.inquiry = self
        self._out[part.id] = level
        return part
