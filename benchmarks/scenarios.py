"""What is measured: one function per scenario, each a whole process against a fresh receiver.

Called by ``benchmarks.run``. Every run's counts are held against the input's ledger and the receiver's;
what does not agree is a fault of the run, in words.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.events import DATA, Input
from benchmarks.processes import Finished, Receiver, run_measured

INGEST_PATH = "/api/v2/events/ingest"
ALL_DELIVERED, SOME_FAILED = 0, 3


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run. ``faults`` is empty where it ended well and its counts are right."""

    scenario: str
    events: int
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    requests: int
    faults: list[str] = field(default_factory=list)


Check = Callable[[Input, dict[str, Any], dict[str, Any]], list[str]]
"""(input, the process's counts, the receiver's counts) -> faults."""


TWO_SINKS = """
[sinks.first]
type = "ingest_api"
[sinks.second]
type = "webhook"
url = "{api}/second"
body = "array"
"""
SINGLE_EVENTS = """
[sinks.single]
type = "cloudevents"
max_in_flight = 32
"""


def run_replay(
    scenario: str,
    given: Input,
    *,
    receiver: tuple[str, ...],
    check: Check,
    timeout_s: float,
    sinks: str = "",
    command: Sequence[str] = (),
) -> Run:
    """``ingestd replay`` of ``given`` with an empty state directory on the disk that holds the data.

    ``sinks``: the configuration's tables; empty: none, so ``ingest_api``. ``command``: what starts
    ``ingestd``; none: the one that is installed.
    """
    with (
        Receiver(*receiver) as api,
        tempfile.TemporaryDirectory(prefix="state-", dir=DATA) as scratch,
    ):
        report = Path(scratch) / "report.json"
        words = [*(command or ingestd()), "replay", str(given.path), "--api", api.api, "--no-auth", "--quiet"]
        words += ["--state-dir", f"{scratch}/state", "--report", str(report)]
        words += ["--max-batch-bytes", "500000", "--max-in-flight", "5", "--give-up-after", "5m"]
        if sinks:
            config = Path(scratch) / "ingestd.toml"
            config.write_text(sinks.format(api=api.api))
            words += ["--config", str(config)]
        finished = run_measured(words, timeout_s=timeout_s)
        counts = _parse(report.read_text()) if report.exists() else None
        # every input has invalid events, so that a clean exit would be a lie
        return _judge(scenario, given, finished, counts, api.stats(), exit_code=SOME_FAILED, check=check)


def run_script(scenario: str, given: Input, *, check: Check, timeout_s: float) -> Run:
    """``benchmarks.naive`` or ``benchmarks.baseline``, whichever ``scenario`` names."""
    with Receiver("--count") as api:
        command = [sys.executable, "-m", f"benchmarks.{scenario}", str(given.path), api.api + INGEST_PATH]
        finished = run_measured(command, timeout_s=timeout_s)
        counts = _parse(finished.stdout)
        return _judge(scenario, given, finished, counts, api.stats(), exit_code=ALL_DELIVERED, check=check)


def ingestd() -> list[str]:
    return [str(Path(sys.executable).with_name("ingestd"))]


def why_no_replay() -> str:
    """Empty if ``ingestd replay`` can be run; else why not, in a line."""
    command = ingestd()
    if not Path(command[0]).exists():
        return "there is no `ingestd` command beside this Python: install the package first"
    finished = run_measured([*command, "replay", "--help"], timeout_s=30)
    return "" if finished.exit_code == 0 else f"`ingestd replay --help` failed: {finished.complaint()}"


def _parse(text: str) -> dict[str, Any] | None:
    try:
        counts = json.loads(text)
    except ValueError:
        return None
    return counts if isinstance(counts, dict) else None


def _judge(
    scenario: str,
    given: Input,
    finished: Finished,
    counts: dict[str, Any] | None,
    received: dict[str, Any],
    *,
    exit_code: int,
    check: Check,
) -> Run:
    faults = []
    if finished.timed_out:
        faults.append(f"did not finish in time: killed after {finished.wall_s:.0f} s")
    elif finished.exit_code != exit_code:
        faults.append(f"exit {finished.exit_code}, {exit_code} expected: {finished.complaint()}")
    if counts is None:
        faults.append("it left no counts")
    else:
        faults += check(given, counts, received)
    return Run(
        scenario=scenario,
        events=given.ledger.accepted,
        wall_s=finished.wall_s,
        cpu_s=finished.cpu_s,
        peak_rss_bytes=finished.peak_rss_bytes,
        requests=received["requests"],
        faults=faults,
    )


def differences(have: dict[str, Any], **want: int) -> list[str]:
    """One fault for every count that is not what it has to be; a missing count is one, too."""
    return [
        f"{name} is {have.get(name)}, {number} expected"
        for name, number in want.items()
        if have.get(name) != number
    ]


def check_baseline(given: Input, counts: dict[str, Any], received: dict[str, Any]) -> list[str]:
    faults = differences(counts, events=given.ledger.accepted)
    return faults + differences(received, requests=counts.get("requests", -1), bytes=counts.get("bytes", -1))


def check_naive(given: Input, counts: dict[str, Any], received: dict[str, Any]) -> list[str]:
    ledger = given.ledger
    faults = differences(
        counts,
        accepted=ledger.accepted,
        delivered=ledger.delivered,
        duplicate=ledger.duplicate,
        rejected=ledger.rejected,
    )
    return faults + differences(received, requests=counts.get("requests", -1), taken_events=ledger.delivered)


def check_delivered(given: Input, counts: dict[str, Any], received: dict[str, Any]) -> list[str]:
    """Everything valid was taken once, although the API may have been away for a while."""
    faults = check_naive(given, counts, received)
    return faults + differences(counts, dead_lettered=0, in_flight=0)


def check_twice(given: Input, counts: dict[str, Any], received: dict[str, Any]) -> list[str]:
    """Everything valid was taken once by each of two sinks, which share the receiver."""
    halved = {**received, "taken_events": received["taken_events"] / 2}
    faults = check_delivered(given, counts, halved)
    for name, sink in counts.get("sinks", {}).items():
        faults += [f"{name}: {fault}" for fault in differences(sink, delivered=given.ledger.delivered)]
    return faults


def check_refused(given: Input, counts: dict[str, Any], received: dict[str, Any]) -> list[str]:
    """The API took nothing. A copy shares its event's fate, or counts as a duplicate of a dead letter."""
    ledger = given.ledger
    faults = differences(counts, accepted=ledger.accepted, delivered=0, rejected=ledger.rejected, in_flight=0)
    faults += differences(received, taken_events=0, requests=counts.get("requests", -1))
    copies = counts.get("duplicate", -1)
    if not 0 <= copies <= ledger.duplicate:
        faults.append(f"duplicate is {copies}, 0 to {ledger.duplicate} expected")
    kept = copies + counts.get("dead_lettered", 0)
    if kept != ledger.delivered + ledger.duplicate:
        faults.append(f"duplicate + dead_lettered is {kept}, {ledger.delivered + ledger.duplicate} expected")
    return faults
