"""How much a run tries: ``make test`` the same every time, ``make test-slow`` more examples of each property,
``make fuzz`` much more and at random.

What fails in ``make test`` for a stranger fails for everybody.
``SEED=4711`` runs one history of a driver of random crashes again: seeds are in the names of its tests.
"""

import os
import random

_PROFILE = os.environ.get("HYPOTHESIS_PROFILE")
FUZZ, _SLOW = _PROFILE == "fuzz", _PROFILE == "slow"
EXAMPLES = 30
"""Of a property in ``make test-slow``, unless it asks for others."""
_PART, _AT_LEAST = 3, 5
"""``make test`` has one in so many of them, and not fewer than that: Hypothesis was a tenth of its CPU."""
MORE = 40
"""Times as many in ``make fuzz``."""


BASE = int(os.environ.setdefault("FUZZ_SEED", str(random.randrange(10**9))))
"""Of the seeds of ``make fuzz``; the processes that run tests beside each other share it."""


def examples(count: int) -> int:
    """``max_examples`` of a property that takes ``count`` in ``make test-slow``."""
    if FUZZ:
        return count * MORE
    return count if _SLOW else max(count // _PART, min(count, _AT_LEAST))


def seeds(few: int, many: int) -> list[int]:
    """For ``pytest.mark.parametrize``: ``few`` that are the same every time, or ``many`` new ones."""
    if given := os.environ.get("SEED"):
        return [int(given)]
    return random.Random(BASE).sample(range(10**9), many) if FUZZ else list(range(few))
