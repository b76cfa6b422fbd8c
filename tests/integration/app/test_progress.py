"""What a replay with several sinks shows while it runs and at its end: a real replay, real receivers."""

from pathlib import Path

import anyio
import pytest

from ingestd.app.replay import open_replay, run
from ingestd.cli.progress import Quiet, RateMeter
from ingestd.config import load
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
            meter = RateMeter(replay)

            async def watch() -> None:
                while not said or said[-1] == "":
                    line = meter.line()
                    said.append(line if "; crm open: " in line or "; crm probing: " in line else "")
                    await anyio.sleep(0.005)

            with anyio.fail_after(patience(10)):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(watch)
                    await run(replay, warn=lambda message: None)
            Quiet().summary(replay)
        alive.append(True)
        async with open_replay(settings, None, [events], warn=said.append) as replay:
            await run(replay, warn=lambda message: None)
            Quiet().summary(replay)
    assert "connection closed" in next(filter(None, said))
    assert "hooks" not in next(filter(None, said))
    out = capsys.readouterr().out

    assert "crm: 0 of 3 delivered, 0 dead letters, 3 in flight (" in out
    assert "hooks: 6 of 6 delivered, 0 dead letters, 0 in flight\n" in out
    assert "  + unmatched     3\n" in out
    assert "crm: 3 of 3 delivered, 0 dead letters, 0 in flight\n" in out
