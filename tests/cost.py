"""What a test costs: ``make test COST=0.25`` prints those that took as many CPU seconds, a plugin of pytest.

CPU and not the clock's time, which tells more about the machine: a test's own, and what the processes took
that it started and waited for. Fixtures count with the test that they were made for.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.limits import children

COST = "cpu_s"
MOST_LINES = 200
_started = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cost",
        type=float,
        default=0.0,
        metavar="S",
        help="print the tests that take S seconds of CPU or more",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    if item.config.getoption("cost"):
        item.stash[_started] = _cpu_s()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    if call.when == "teardown" and item.config.getoption("cost"):
        item.user_properties.append((COST, round(_cpu_s() - item.stash[_started], 3)))
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    limit = config.getoption("cost")
    if not limit:
        return
    costs = {
        report.nodeid: dict(report.user_properties)[COST]
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and COST in dict(report.user_properties)
    }
    slow = sorted((cost, name) for name, cost in costs.items() if cost >= limit)[::-1]
    terminalreporter.section(f"{len(slow)} of {len(costs)} tests took {limit} s of CPU or more")
    for cost, name in slow[:MOST_LINES]:
        terminalreporter.write_line(f"{cost:7.2f}  {name}")
    terminalreporter.write_line(f"{sum(costs.values()):7.2f}  all tests")


def _cpu_s() -> float:
    times = os.times()
    mine = times.user + times.system + times.children_user + times.children_system
    return mine + sum(map(_cpu_s_of, children()))


def _cpu_s_of(pid: int) -> float:
    """Of a process that runs beside the tests, and of those that it has waited for (``tests/warm.py``)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
