"""Cutting a batch that is too large, or of which some events are refused and the API does not say which.
Pure.

Events of one key stay together, so that order survives. Where a refusal (400, 422) names no event,
halves are sent until the bad events stand alone. Where nothing at all is accepted, that would cost
two requests for every event of the stream; so after three levels without one acceptance, single
events from all over the batch are tried, and if every one of them is refused, the rest is given up
as a group and says so. A lane that has just seen that begins the next batch with the singles.
"""

from collections.abc import Callable, Sequence

import msgspec

from ingestd.core.chunk import Batch

EventKey = str | bytes
KeysOf = Callable[[Sequence[bytes]], list[EventKey | None]]

_LEVELS = 3
_SAMPLES = 32
_SAMPLES_AGAIN = 8
_UNTRIED = -1
"""Level of a part that is to be decided on like one that was refused, without being sent."""
GROUP_NOTE = "every event of its batch that was sent alone was refused; this one was not tried alone: "


_Chain = list[tuple[Batch, int]]
"""Parts of one key with their levels, which wait for those before them; the next one last."""


class BisectionStep(msgspec.Struct):
    """What to do now, in this order: note the ``cuts`` (a batch and the parts its events are in now),
    ``send``, and give up ``rejected``, and ``untried``: events that were not tried alone."""

    cuts: list[tuple[Batch, list[Batch]]] = msgspec.field(default_factory=list)
    send: list[Batch] = msgspec.field(default_factory=list)
    rejected: list[Batch] = msgspec.field(default_factory=list)
    untried: list[Batch] = msgspec.field(default_factory=list)


class Bisection:
    """One refused batch and the parts it was cut into. The lane feeds it what became of each part.

    With ``keys_of`` the events of a key stay in one part, or in a chain of parts of that key alone,
    of which only the first is out.
    """

    def __init__(self, *, expect_all: bool = False, keys_of: KeysOf | None = None) -> None:
        self._expect_all = expect_all
        self._keys_of = keys_of
        self._accepted = False
        self._sampling = False
        self._out: dict[str, tuple[int, _Chain]] = {}  # part -> level, and what is behind it
        self._held: list[tuple[Batch, _Chain]] = []
        self.gave_up = False

    @property
    def found_good(self) -> bool:
        return self._accepted

    def refused(self, part: Batch) -> BisectionStep:
        """``part`` was refused, without a name. The first call is for the batch itself."""
        level, chain = self._out.pop(part.id, (0, []))
        step = BisectionStep()
        if len(part) == 1:
            step.rejected.append(part)
            self._go_on(chain, step)
        elif self._accepted or len(part) <= 2 * _SAMPLES_AGAIN or self._may_halve(level):
            self._halve(part, level, chain, step)
        else:
            self._held.append((part, chain))
        return self._next(step)

    def accepted(self, part: Batch) -> BisectionStep:
        """``part`` was taken, or its answer named the culprits: not everything is refused."""
        self._accepted = True
        return self.ended(part)

    def ended(self, part: Batch) -> BisectionStep:
        """``part`` came to an end that says nothing about refusals."""
        _, chain = self._out.pop(part.id, (0, []))
        step = BisectionStep()
        self._go_on(chain, step)
        return self._next(step)

    def take_held(self) -> list[Batch]:
        """The parts that wait for the answers to others, no longer held."""
        parts = [part for part, _ in self._held]
        for _, chain in (*self._held, *self._out.values()):
            parts += [part for part, _ in reversed(chain)]
            chain.clear()
        self._held = []
        return parts

    def _may_halve(self, level: int) -> bool:
        return level < _LEVELS and not (level == 0 and self._expect_all)

    def _next(self, step: BisectionStep) -> BisectionStep:
        """What is held back is decided on with the first acceptance, or when the last answer is in."""
        if self._accepted:
            held, self._held = self._held, []
            for part, chain in held:
                if len(part) == 1:
                    step.send.append(self._open(part, _LEVELS, chain))
                else:
                    self._halve(part, _LEVELS, chain, step)
        elif self._held and not self._out:
            if self._sampling:
                self._give_up(step)
            else:
                self._sampling = True
                self._sample(step)
        return step

    def _give_up(self, step: BisectionStep) -> None:
        """What is held is bad like the samples of it. Its chains go on: nothing of them was tried."""
        held, self._held = self._held, []
        step.untried = [part for part, _ in held]
        self.gave_up = self._expect_all = True
        self._sampling = False
        for _, chain in held:
            self._go_on(chain, step)

    def _go_on(self, chain: _Chain, step: BisectionStep) -> None:
        """A part of one key is resolved: the turn of the next."""
        if not chain:
            return
        part, level = chain.pop()
        if level == _UNTRIED:
            self._held.append((part, chain))
        else:
            step.send.append(self._open(part, level, chain))

    def _halve(self, part: Batch, level: int, chain: _Chain, step: BisectionStep) -> None:
        first, second, in_turn = halve(part, self._keys_of)
        step.cuts.append((part, [first, second]))
        step.send.append(self._open(first, level + 1, chain))
        if in_turn:
            chain.append((second, level + 1))
        else:
            step.send.append(self._open(second, level + 1, []))

    def _sample(self, step: BisectionStep) -> None:
        """Single events, evenly from all that is held; the others are held on."""
        held, self._held = self._held, []
        share = max(1, (_SAMPLES_AGAIN if self._expect_all else _SAMPLES) // len(held))
        for part, chain in held:
            groups = group(part, self._keys_of)
            chosen = groups[:: max(1, len(groups) // share)][:share]
            each = share // len(chosen)
            parts: list[Batch] = []
            for indices in chosen:
                line = [(part.part([index]), _LEVELS) for index in indices[:each]]
                if rest := indices[each:]:
                    line.append((part.part(rest), _UNTRIED))
                parts += [one for one, _ in line]
                behind = chain if len(groups) == 1 else []
                behind += reversed(line[1:])
                step.send.append(self._open(line[0][0], _LEVELS, behind))
            among = {index for indices in chosen for index in indices}
            if others := [index for index in range(len(part)) if index not in among]:
                parts.append(part.part(others))
                self._held.append((parts[-1], []))
            step.cuts.append((part, parts))

    def _open(self, part: Batch, level: int, chain: _Chain) -> Batch:
        part.bisection = self
        self._out[part.id] = (level, chain)
        return part


def group(batch: Batch, keys_of: KeysOf | None) -> list[list[int]]:
    """Indices of the batch's events, those of one key together; without a key each is on its own."""
    if keys_of is None:
        return [[index] for index in range(len(batch))]
    groups: dict[EventKey | int, list[int]] = {}
    for index, key in enumerate(keys_of(batch.events)):
        groups.setdefault(index if key is None else key, []).append(index)
    return list(groups.values())


def halve(batch: Batch, keys_of: KeysOf | None) -> tuple[Batch, Batch, bool]:
    """A batch of at least two events in two parts, and whether the second must wait for the first.

    It must if all events are of one key; otherwise no key is in both parts.
    """
    middle = len(batch) // 2
    if keys_of is None or len(groups := group(batch, keys_of)) == len(batch):
        return batch.part(range(middle)), batch.part(range(middle, len(batch))), False
    if len(groups) == 1:
        return batch.part(range(middle)), batch.part(range(middle, len(batch))), True
    first: list[int] = []
    for indices in groups:
        if not first or len(first) + len(indices) <= middle:
            first += indices
    chosen = set(first)
    second = [index for index in range(len(batch)) if index not in chosen]
    return batch.part(sorted(first)), batch.part(second), False
