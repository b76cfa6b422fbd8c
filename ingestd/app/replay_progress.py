"""How far a replay is: what a person is shown while it runs, and what a process of several tells."""

import msgspec

from ingestd.app.replay import Replay
from ingestd.core.redaction import redact
from ingestd.core.text import answer_words
from ingestd.core.units import human_seconds


class ReplayProgress(msgspec.Struct, frozen=True):
    """``read``: events, those of other parts among them. ``done_bytes``: of the events that are resolved;
    ``total_bytes``: None where it is not known. ``requests_out``: without an answer yet; ``reasons``: why
    sinks stand still."""

    read: int = 0
    accepted: int = 0
    delivered: int = 0
    duplicate: int = 0
    rejected: int = 0
    dead_lettered: int = 0
    in_flight: int = 0
    done_bytes: float = 0.0
    total_bytes: int | None = 0
    requests_out: int = 0
    reasons: tuple[str, ...] = ()


def progress_of(replay: Replay) -> ReplayProgress:
    ledger, runners = replay.pipeline.ledger, replay.pipeline.runners
    sources = [source.reader for source in replay.sources]
    sizes, read = [one.size for one in sources], sum(one.bytes_read for one in sources)
    return ReplayProgress(
        read=ledger.accepted + (replay.intake.of_others if replay.intake else 0),
        accepted=ledger.accepted,
        delivered=ledger.delivered,
        duplicate=ledger.duplicate,
        rejected=ledger.rejected,
        dead_lettered=ledger.dead_lettered,
        in_flight=ledger.in_flight,
        done_bytes=read * (1 - ledger.in_flight / ledger.accepted) if ledger.accepted else 0.0,
        total_bytes=None if None in sizes else sum(size for size in sizes if size is not None),
        requests_out=sum(runner.lane.active for runner in runners),
        reasons=_reasons(replay),
    )


def _reasons(replay: Replay) -> tuple[str, ...]:
    runners, now = replay.pipeline.runners, replay.pipeline.clock.monotonic()
    found = []
    for runner in runners:
        lane = runner.lane
        name = f"{runner.name} " if len(runners) > 1 else ""
        wait_s = lane.limiter.closed_until - now
        if lane.circuit.state != "closed":
            found.append(f"{name}{lane.circuit.state}: {answer_words(redact(lane.circuit.why))}")
        elif wait_s >= 1 and lane.queued + lane.waiting:
            found.append(f"{name}waits {human_seconds(round(wait_s))}: the API asks for it")
    return tuple(found)
