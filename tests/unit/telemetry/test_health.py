"""Readiness names every reason that there is."""

from ingestd.telemetry.health import Readiness


def test_ready_means_that_every_condition_holds() -> None:
    readiness = Readiness()
    assert readiness.ready
    reasons: dict[str, str | None] = {"spool": None, "login": "no token yet"}
    for name in reasons:
        readiness.add(name, lambda name=name: reasons[name])  # type: ignore[misc]
    assert readiness.reasons() == ["login: no token yet"]
    reasons["spool"] = "at its cap"
    assert readiness.reasons() == ["spool: at its cap", "login: no token yet"]
    reasons.update(spool=None, login=None)
    assert readiness.ready


def test_a_check_that_raises_is_not_ready_and_hides_no_other() -> None:
    readiness = Readiness()
    readiness.add("broken", lambda: str(1 / 0))
    readiness.add("disk", lambda: "full")
    assert readiness.reasons() == ["broken: cannot be checked (ZeroDivisionError)", "disk: full"]


def test_a_condition_can_be_replaced_and_removed() -> None:
    readiness = Readiness()
    readiness.add("start", lambda: "reading the spool")
    readiness.add("start", lambda: "logging in")
    assert readiness.reasons() == ["start: logging in"]
    readiness.remove("start")
    assert readiness.ready
