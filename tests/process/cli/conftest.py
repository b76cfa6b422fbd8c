"""What the end-to-end tests share."""

from pathlib import Path

import pytest

from tests.process.cli.support import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
