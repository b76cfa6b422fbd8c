"""One warm ``ingestd`` for all pages that a worker runs."""

from pathlib import Path

import pytest

from tests.warm import warm


@pytest.fixture(scope="session")
def commands() -> Path:
    """A directory with an ``ingestd`` that starts at once."""
    return warm().directory
