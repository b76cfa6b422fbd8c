"""What all tests share."""

import gc
from itertools import chain

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from ingestd.core import redaction
from tests.effort import EXAMPLES, FUZZ, examples

pytest_plugins = (
    "tests.limits",
    "tests.directories",  # after it, and so asked before it: limits measure the disk that tests use
    "tests.reports",
    "tests.cost",
    "tests.warm",
    "tests.moto_of_run",
)


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test makes a secret is masked from then on in all that its process says."""
    monkeypatch.setattr(redaction, "_known", redaction.Mask())
    redaction._redacted.cache_clear()
    redaction._by_value.cache_clear()


LONG = (
    *("admin/test_console.py", "sqs/test_sqs.py", "simulation/test_mutants.py", "simulation/test_seeds.py"),
    *(
        "process/test_limits.py",
        "process/soak/",
        "process/cluster/",
        "test_run_hostile.py",
        "nats/test_spool.py",
        "test_lint.py",
    ),
    *("cli/test_secrets.py", "test_prometheus.py", "test_control_plan.py", "test_added_sink.py"),
    *("test_several_sinks.py", "eventbridge-sqs.md", "test_package.py"),
    *("test_run_sinks.py", "test_way_of_one_event.py", "test_run_kill.py", "test_run_watching.py"),
)
"""Files with a test that takes seconds, most of them waiting: the longest first."""


@pytest.hookimpl(trylast=True)  # of what is left once markers have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest starts first, and on all workers: nobody waits for it in the end.

    pytest-xdist gives each worker a part of the list, one after the other; later they take from each other.
    """
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    parts: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for place, name in enumerate(LONG):
        parts[place % workers] += [item for item in items if name in item.nodeid]
    long = set(chain(*parts))
    others = [item for item in items if item not in long]
    left = len(items)
    for number, part in enumerate(parts):
        taken = max(0, left // (workers - number) - len(part))
        part += others[:taken]
        del others[:taken]
        left -= len(part)
    items[:] = chain(*parts)


def pytest_collection() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no collection of garbage has to look at it again."""
    gc.enable()
    gc.freeze()
    gc.set_threshold(3000)  # the usual 700 made the search for garbage one part in fourteen of a run


@pytest.fixture
def anyio_backend() -> str:
    """Everything runs on asyncio, as in production."""
    return "asyncio"


if not FUZZ and hasattr(providers, "_get_local_constants"):
    # What stands in the modules that a worker happens to have imported made its examples others than those of
    # the next run, and to read it took seconds of each worker. `make fuzz` has it.
    providers._get_local_constants = lambda: providers._local_constants

settings.register_profile(
    "effort",
    max_examples=examples(EXAMPLES),
    derandomize=not FUZZ,
    database=None,
    deadline=None,
    suppress_health_check=set(HealthCheck) - {HealthCheck.filter_too_much},
)
settings.load_profile("effort")
