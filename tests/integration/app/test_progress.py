"""What a replay with several sinks shows while it runs and at its end: a real replay, real receivers."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from ingestd.app.replay import open_replay, run
from ingestd.app.replay_progress import progress_of
from ingestd.app.replay_report import outcome_of
from ingestd.cli.progress import Look, Quiet, RateMeter, bar_lines
from ingestd.config import load
from ingestd.core.ledger import Ledger
from tests.each import each
from tests.machine import patience
from tests.receiver import Cut, Receiver, Reply

pytestmark = pytest.mark.anyio


async def test_a_sink_in_trouble_is_named_while_it_runs_and_every_sink_has_a_line_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alive: list[bool] = []
    async with Receiver(lambda request: Reply() if alive else Cut()) as crm, Receiver() as hooks:
        (tmp_path / "i.toml").write_text(
            f"[state]\ndir = '{tmp_path}/state'\n[schema]\nname = '{tmp_path}/any.json'\ndedup_key = 'id'\n"
            "[delivery]\nstartup_timeout = '300ms'\nbackoff_base = '10ms'\ncircuit_threshold = 2\n"
            f"[sinks.crm]\ntype = 'webhook'\nurl = '{crm.url}/crm'\nwhen = {{kind = ['order']}}\n"
            f"[sinks.hooks]\ntype = 'webhook'\nurl = '{hooks.url}/hooks'\n"
            "when = {kind = ['order', 'note']}\n"
        )
        (tmp_path / "any.json").write_text('{"type": "object"}')
        events = str(tmp_path / "events.ndjson")
        kinds = ["order", "note", "noise"]
        lines = [f'{{"id": {number}, "kind": "{kinds[number % 3]}"}}' for number in range(9)]
        (tmp_path / "events.ndjson").write_text("\n".join(lines))
        settings = load(str(tmp_path / "i.toml"), {}, {})
        said: list[str] = []
        async with open_replay(settings, None, [events], warn=said.append) as replay:
            meter = RateMeter(partial(progress_of, replay))

            async def watch() -> None:
                while not said or said[-1] == "":
                    line = meter.line()
                    said.append(line if "; crm open: " in line or "; crm probing: " in line else "")
                    await anyio.sleep(0.005)

            with anyio.fail_after(patience(10)):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(watch)
                    await run(replay, warn=lambda message: None)
            Quiet().summary(outcome_of(replay))
        alive.append(True)
        async with open_replay(settings, None, [events], warn=said.append) as replay:
            await run(replay, warn=lambda message: None)
            Quiet().summary(outcome_of(replay))
    assert "connection closed" in next(filter(None, said))
    assert "hooks" not in next(filter(None, said))
    out = capsys.readouterr().out

    assert "crm: 0 of 3 delivered, 0 dead letters, 3 in flight (" in out
    assert "hooks: 6 of 6 delivered, 0 dead letters, 0 in flight\n" in out
    assert "  + unmatched     3\n" in out
    assert "crm: 3 of 3 delivered, 0 dead letters, 0 in flight\n" in out


RUNNING = Look(12.6e6, 42_800_000, 10_676, 24_423, 487, 11_996, 0, 4_250, 12.0, [])
STUCK = RUNNING._replace(
    events_per_second=0.0, left_s=None, reasons=["open: 503 code: busy, message: " + "z" * 200]
)
PIPE = RUNNING._replace(total_bytes=None, left_s=None)
HUGE = Look(
    9e12, 10**13, 1e6, 10**10, 10**9, 10**9, 10**9, 10**6, 1e9, ["crm paused: 401", "hooks open: 503"]
)


@each(
    ("width", "line"),
    [
        (90, "━━━━━━━───────────────── 29 %  0:00:12  10.7k/s  24.4k delivered · 12.0k rejected"),
        (80, "━━━━━━━──────────────── 29 %  0:00:12  10.7k/s  24.4k delivered · 12.0k rejected"),
        (40, "━━━━━━━───────────────── 29 %  0:00:12"),
        (20, "━━━━╸────────── 29 %"),
        (12, "29 %"),
        (4, "29 %"),
    ],
)
def test_where_there_is_little_room_the_counts_go_first_and_the_share_last(width: int, line: str) -> None:
    assert bar_lines(RUNNING, width) == [line]


@each("width", [80, 100, 140, 200])
def test_the_bar_is_whole_at_every_width_and_the_reason_has_a_line_of_its_own(width: int) -> None:
    for look in (RUNNING, STUCK, HUGE):
        first, *others = bar_lines(look, width)
        bar = first.split(" ")[0]
        assert 8 <= len(bar) <= 24
        assert set(bar) <= set("━╸─")
        assert f"{100 * look.share:.0f} %" in first
        assert "delivered" in first
        assert len(others) == len(look.reasons)
        assert all(len(line) <= width and line.isprintable() for line in (first, *others))
    assert "0:00:12" in bar_lines(RUNNING, width)[0]
    stuck = bar_lines(STUCK, width)
    assert "-:--:--" in stuck[0]
    assert stuck[1].startswith("  open: 503 code: busy, message: zzz")
    assert "━" not in bar_lines(PIPE, width)[0]
    assert bar_lines(PIPE, width)[0].startswith("12.6 MB")
    assert all(line.isascii() for line in bar_lines(HUGE, width, plain=True))


class Moved:
    """A replay whose figures a test sets, and its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ledger = Ledger()
        self.reader = SimpleNamespace(size=1_000_000, bytes_read=0)
        circuit = SimpleNamespace(state="closed", why="")
        limiter = SimpleNamespace(closed_until=0.0)
        self.lane = SimpleNamespace(circuit=circuit, limiter=limiter, active=1, queued=1, waiting=0)
        clock = SimpleNamespace(monotonic=lambda: self.now)
        runners = [SimpleNamespace(name="api", lane=self.lane)]
        replay: Any = SimpleNamespace(
            sources=[SimpleNamespace(reader=self.reader)],
            intake=None,
            pipeline=SimpleNamespace(ledger=self.ledger, clock=clock, runners=runners),
        )
        self.meter = RateMeter(partial(progress_of, replay), lambda: self.now)

    def after(self, seconds: float, *, read: int, accepted: int, in_flight: int) -> Look:
        self.now += seconds
        self.reader.bytes_read, self.ledger.accepted, self.ledger.in_flight = read, accepted, in_flight
        self.ledger.delivered = accepted - in_flight
        return self.meter.look()


def test_the_time_left_follows_what_is_delivered_and_is_not_told_while_it_stands_still() -> None:
    moved = Moved()
    for second in range(1, 11):
        look = moved.after(1, read=400_000, accepted=4000, in_flight=4000 - 100 * second)
    assert look.share == pytest.approx(0.1), "read is not delivered"
    assert look.left_s == pytest.approx(90, rel=0.01)
    moved.lane.circuit.state, moved.lane.circuit.why = "open", '503 {"code":"busy"}'
    look = moved.after(1, read=400_000, accepted=4000, in_flight=3000)
    assert (look.left_s, look.reasons) == (None, ["open: 503 code: busy"])
    moved.lane.circuit.state = "closed"
    for _ in range(12):
        look = moved.after(1, read=400_000, accepted=4000, in_flight=3000)
    assert (look.left_s, look.reasons) == (None, ["no answer for 13s, 1 request out"])
    moved.lane.limiter.closed_until = moved.now + 60
    look = moved.after(0, read=400_000, accepted=4000, in_flight=3000)
    assert look.reasons == ["waits 1m: the API asks for it"]
    moved.lane.limiter.closed_until = 0.0
    moved.after(1, read=500_000, accepted=5000, in_flight=0)
    look = moved.after(1, read=600_000, accepted=6000, in_flight=0)
    assert look.reasons == []
    assert look.left_s is not None
    assert 4 <= look.left_s <= 12
