"""How much a run tries: ``make test`` the same every time, ``make fuzz`` much more and at random.

What fails in ``make test`` for a stranger fails for everybody.
``SEED=4711`` runs one history again that a driver of random crashes printed.
"""

import os
import random

FUZZ = os.environ.get("HYPOTHESIS_PROFILE") == "fuzz"
EXAMPLES = 40
"""Of a property in ``make test``, unless it asks for others."""
MORE = 30
"""Times as many in ``make fuzz``."""


def examples(count: int) -> int:
    """``max_examples`` of a property that takes ``count`` in ``make test``."""
    return count * MORE if FUZZ else count


def seeds(few: int, many: int) -> list[int]:
    """For ``pytest.mark.parametrize``: ``few`` that are the same every time, or ``many`` new ones."""
    if given := os.environ.get("SEED"):
        return [int(given)]
    if FUZZ:
        return random.sample(range(10**9), many)
    return list(range(few))
