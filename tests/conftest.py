"""What all tests share."""

import gc
import sys
from importlib.util import find_spec
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
    "tests.workers",
    "tests.moto_of_run",
)


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test makes a secret is masked from then on in all that its process says."""
    monkeypatch.setattr(redaction, "_known", redaction.Mask())
    redaction._redacted.cache_clear()
    redaction._by_value.cache_clear()


LONG = (
    *("cluster/test_one_machine.py", "cluster/test_parked_sinks.py", "test_limits.py", "simulation/"),
    *("process/cluster/", "process/soak/", "admin/test_console.py", "cli/test_secrets.py", "sqs/test_sqs.py"),
    *("nats/test_streams.py", "nats/test_spool.py", "files/test_kill.py", "nats/test_kill.py"),
    *("test_deleted_messages.py", "process/test_workers.py", "test_replay_order.py", "test_run_outage.py"),
    *("test_run_one_dead_sink.py", "cli/test_outage.py", "live/test_rotation.py", "cli/test_sandbox.py"),
    *("cli/test_kill.py", "test_run_hostile.py", "test_run_disk.py", "test_run_watching.py"),
    *("test_package.py", "test_added_sink.py", "test_prometheus.py", "test_control_plan.py"),
    *("test_zeroed_pages.py", "test_several_sinks.py", "eventbridge-sqs.md", "test_blocked_store.py"),
    *("test_way_of_one_event.py", "test_run_sinks.py", "test_run_kill.py"),
)
"""Files with a test that takes seconds, most of them waiting: the longest first."""


@pytest.hookimpl(trylast=True)  # of what is left once markers have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest starts early, and on all workers: nobody waits for it in the end. Every other worker
    has a quarter of its other tests first: those that take long wait most of it, and would leave a core idle.

    pytest-xdist gives each worker a part of the list, one after the other; later they take from each other.
    """
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    by_name: list[list[pytest.Item]] = [[] for _ in (*LONG, "others")]
    for item in items:
        nodeid = item.nodeid
        by_name[next((place for place, name in enumerate(LONG) if name in nodeid), -1)].append(item)
    others = by_name.pop()
    long = [*chain(*by_name)]
    parts = [long[worker::workers] for worker in range(workers)]
    left = len(items)
    for number, part in enumerate(parts):
        taken = max(0, left // (workers - number) - len(part))
        before = taken // 4 if number % 2 else 0
        part[:0] = others[:before]
        part += others[before:taken]
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


if find_spec("sniffio") is None:
    # httpcore looks for it wherever it makes a lock, several times a request: through all of sys.path and
    # pytest's own way to import.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

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
