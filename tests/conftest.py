"""What all tests share."""

import pytest
from hypothesis import HealthCheck, settings

from ingestd.core import redaction
from tests.effort import EXAMPLES, FUZZ, examples

pytest_plugins = ("tests.limits", "tests.reports", "tests.slow")


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test makes a secret is masked from then on in all that its process says."""
    monkeypatch.setattr(redaction, "_known", redaction.Mask())
    redaction._redacted.cache_clear()
    redaction._by_value.cache_clear()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest starts first: nobody waits for it in the end."""
    items.sort(key=lambda item: "process/test_limits.py" not in item.nodeid)


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
