"""What all tests share."""

import gc

import pytest
from hypothesis import HealthCheck, settings

from ingestd.core import redaction
from tests.effort import EXAMPLES, FUZZ, examples

pytest_plugins = ("tests.directories", "tests.limits", "tests.reports", "tests.slow", "tests.workers")


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test makes a secret is masked from then on in all that its process says."""
    monkeypatch.setattr(redaction, "_known", redaction.Mask())
    redaction._redacted.cache_clear()
    redaction._by_value.cache_clear()


def pytest_collection() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no collection of garbage has to look at it again."""
    gc.enable()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """Everything runs on asyncio, as in production."""
    return "asyncio"


settings.register_profile(
    "effort",
    max_examples=examples(EXAMPLES),
    derandomize=not FUZZ,
    database=None,
    deadline=None,
    suppress_health_check=set(HealthCheck) - {HealthCheck.filter_too_much},
)
settings.load_profile("effort")
