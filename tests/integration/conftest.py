"""What tests of one process share."""

import gc
from collections.abc import Callable

import pytest


@pytest.fixture
def alive() -> Callable[..., int]:
    """Counts the objects of some types that were made since the test began, and are still there."""

    def count(*kinds: type) -> int:
        gc.collect()
        return sum(isinstance(one, kinds) for one in gc.get_objects())

    gc.collect()
    gc.freeze()  # what earlier tests have left is not looked at, nor by later tests
    return count
