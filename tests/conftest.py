"""What all tests share."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Everything runs on asyncio, as in production."""
    return "asyncio"
