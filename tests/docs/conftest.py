"""One warm ``ingestd`` for all pages that a worker runs."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.warm import Warm


@pytest.fixture(scope="session")
def commands() -> Iterator[Path]:
    """A directory with an ``ingestd`` that starts at once."""
    with tempfile.TemporaryDirectory(prefix="ingestd-") as directory:  # short: the path of a socket
        warm = Warm(Path(directory))
        try:
            yield Path(directory)
        finally:
            warm.close()
