"""What several processes tell, as one service: what one counted before it died stays."""

from types import SimpleNamespace
from typing import Any

import pytest

from ingestd.app.cluster.machine_model import MachineModel
from ingestd.app.cluster.machine_view import CarriedCounts, MachineView, ProcessStatus, SpoolFigures
from ingestd.app.cluster.probe import Probed
from ingestd.app.console.service_model import probe_words
from ingestd.cluster.parked_sinks import Parked
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.core.errors import NotFound


class ManualClock(SystemClock):
    now = 100.0

    def monotonic(self) -> float:  # type: ignore[override]
        return self.now


def sink(delivered: int, *, state: str = "closed", why: str = "") -> dict[str, Any]:
    return {
        "name": "one",
        "type": "webhook",
        "url": "http://api/",
        "state": state,
        "since": 7.0 if why else None,
        "why": why,
        "next_probe": 3.0 if why else None,
        "last_success": 90.0 + delivered,
        "active_requests": 1,
        "concurrency_limit": 4,
        "delivered": delivered,
        "dead_lettered": 2,
        "answered": [],
    }


def share(in_flight: int) -> dict[str, Any]:
    ledger = {"accepted": 10 + in_flight, "delivered": 10, "in_flight": in_flight}
    return {"sink": "one", "partition": "0", "ledger": ledger, "lag_chunks": 3, "oldest_seconds": 1.5}


def test_counts_of_a_process_that_was_started_again_stay_in_the_sum() -> None:
    counts = CarriedCounts()
    for process, starts, value in (("a", 1, 5), ("b", 1, 7), ("a", 2, 1), ("a", 2, 2), ("a", 3, 0)):
        counts.note(process, starts, "x", value)
    assert counts.totals() == {"x": 5 + 2 + 0 + 7}


def test_processes_are_shown_as_one_service_with_the_worst_of_their_circuits() -> None:
    clock = ManualClock()
    view = MachineView(clock, "/state")
    assert (view.overview()["ready"], view.overview()["state"]) == (False, "starting")
    for turn, delivered in enumerate((0, 50)):
        told = [
            ProcessStatus(
                "edge-1", "edge", 1, {"edge": {"stored": 10 * turn}, "producers": {"p": 10 * turn}}
            ),
            ProcessStatus("edge-2", "edge", 1, {}),  # it does not answer
            ProcessStatus("worker-1", "worker", 1, {"sinks": [sink(delivered)], "shares": [share(4)]}),
            ProcessStatus(
                "worker-2",
                "worker",
                1,
                {
                    "sinks": [sink(delivered, state="open", why="503")],
                    "shares": [share(1)],
                    "config": {"needs_restart": ["sinks"], "last_error": "no"},
                },
            ),
        ]
        view.note(told, [], SpoolFigures(1_000 * turn, 10_000, 5))
        clock.now += 5.0
    found = view.overview()
    (one,) = found["sinks"]
    assert (one["state"], one["why"], one["since"], one["next_probe"]) == ("open", "503", 7.0, 3.0)
    assert (one["delivered"], one["dead_lettered"], one["in_flight"], one["behind_chunks"]) == (100, 4, 5, 6)
    assert (one["active_requests"], one["concurrency_limit"], one["last_success"]) == (2, 8, 140.0)
    assert (one["rates"]["now"], found["accepted"]["now"], found["delivered"]["now"]) == (20.0, 2.0, 20.0)
    assert found["ledger"]["accepted"] == 25
    assert (found["spool"]["bytes"], found["spool"]["full_in"], found["letters"]) == (
        1_000,
        45,
        {"waiting": 5},
    )
    assert [(one["name"], one["accepted"]) for one in found["producers"]] == [("p", 10)]
    assert (found["needs_restart"], found["reload_error"], found["ready"]) == (["sinks"], "no", True)
    assert view.charts()["delivered"] == {"one": [0.0, 20.0]}


def test_a_sink_is_parked_as_workers_say_and_what_somebody_has_just_done_is_newer() -> None:
    clock = ManualClock()
    view = MachineView(clock, "/state")

    def told(at: float | None, *, connected: bool = True) -> ProcessStatus:
        states = {"sinks": [sink(0) | {"parked": at}], "shares": [], "worker": {"connected": connected}}
        return ProcessStatus("worker-1", "worker", 1, states)

    def parked() -> tuple[str, str | None, float]:
        (found,) = view.overview()["sinks"]
        return found["state"], found["parked"], found["since"]

    view.note([told(None)], [], SpoolFigures())
    assert parked()[:2] == ("closed", None)
    view.note([told(50.0)], [], SpoolFigures())
    assert parked() == ("parked", "person", 50.0)
    view.note([told(None, connected=False)], [], SpoolFigures(parked={"one": 51.0}))
    assert parked() == ("parked", "person", 51.0)  # nobody says it, and so it stands in the spool
    view.note_parked("one", Parked(0.0, 8))
    view.note_parked("one", Parked(60.0, 7))  # of two at once the one that came last counts
    view.note([told(50.0)], [], SpoolFigures())
    assert parked()[:2] == ("closed", None)
    clock.now += 10
    view.note([told(50.0)], [], SpoolFigures())
    assert parked() == ("parked", "person", 50.0)


def test_the_usual_sink_of_a_configuration_that_names_none_is_known_before_a_worker_tells_of_it() -> None:
    clock = ManualClock()
    hub = SimpleNamespace(listen=lambda **which: which)
    model = MachineModel(
        Settings,
        Settings(),
        MachineView(clock, "/state"),
        workers=dict,
        tap=hub,  # type: ignore[arg-type]
        clock=clock,
        audit=lambda *_, **__: None,
    )
    assert model.tap(sink="ingest_api", what="", when="") == {"sink": "ingest_api", "what": "", "when": ""}
    with pytest.raises(NotFound, match="there is no sink crm"):
        model.tap(sink="crm", what="", when="")


def test_what_a_probe_says_is_true_of_a_request_that_is_out_already() -> None:
    assert probe_words(probing=True, is_out=False) == "the next request goes out now"
    assert probe_words(probing=True, is_out=True) == "a request is out already: its answer decides"
    assert probe_words(probing=False, is_out=True) == "it is not paused: nothing to probe"
    assert Probed(True, [], is_out=True).words() == ["a request is out already: its answer decides"]
