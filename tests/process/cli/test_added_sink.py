"""A sink is one file: what a file of its own adds to every command, without another line anywhere."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.event_api import event
from tests.machine import patience
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
TOY = """
from typing import Literal

from ingestd.core.setting_types import NOTHING, Secret, field
from ingestd.sinks.settings import TYPE, HttpSinkConfig


class ToySink:
    '''Events in a list of toys.'''

    kind = "toy"
    overhead_bytes, separator_bytes = 11, 1

    def __init__(self, url, *, name, pin, reader, wall, max_events=10, max_bytes=100_000):
        self.name, self.url, self.shown_url = name, url, url
        self.max_events, self.max_bytes = max_events, max_bytes
        self._pin, self._reader, self._wall = pin, reader, wall

    def sizes(self, events):
        return None

    def encode(self, events):
        return b"".join((b'{"toys":[', b",".join(events), b"]}"))

    def headers(self, batch_id, events):
        return {"Content-Type": "text/toy", "Idempotency-Key": batch_id, "X-Pin": self._pin}

    def interpret(self, answer, events):
        return self._reader.read(answer, events, now_wall=self._wall())


class ToyConfig(HttpSinkConfig):
    '''Of toys.'''

    type: Literal["toy"] = field(description=TYPE)
    pin: Secret = field(NOTHING, description="shown nowhere")

    def make(self, basis):
        return ToySink(
            basis.url("/toys"), name=basis.name, pin=self.pin.get_secret_value(),
            reader=basis.reader, wall=basis.wall, max_events=basis.max_events,
        )

    @property
    def expects_json(self):
        return False
"""
CASES = """
import time
import ingestd.sinks
ingestd.sinks.__path__.append({room!r})
from ingestd.sinks.answers import DEFAULT
from ingestd.sinks.toy import ToySink
from tests.contract.sinks import cases

def toy(api):
    return ToySink(api + "/toys", name="sink", pin="1", reader=DEFAULT, wall=time.time, max_events=100)

cases.CASES[:] = [cases.Case("toy", toy, cases.external_event)]
"""
COMMAND = """
import sys
import ingestd.sinks
ingestd.sinks.__path__.append({room!r})
from ingestd.cli.group import cli
cli(sys.argv[1:])
"""

FREE = '[ingest]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
"""``check`` wants the ports, and the usual ones may be somebody's."""


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder that counts as one of ``ingestd/sinks/``, with a sink in it."""
    folder = tmp_path / "room"
    folder.mkdir()
    (folder / "toy.py").write_text(TOY)
    return folder


async def run(room: Path, *words: str, code: str = COMMAND) -> tuple[int, str]:
    """(exit code, what it said on both outputs)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", code.format(room=str(room)), *words),
        cwd=ROOT,
        env=os.environ | {"XDG_STATE_HOME": str(room.parent / "state")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(patience(60.0)):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_sink_that_is_one_file_can_be_configured_shown_checked_and_sent_to(room: Path) -> None:
    seen: list[Request] = []

    def take(request: Request) -> Reply:
        seen.append(request)
        return Reply(200, body=b"thanks")

    async with Receiver(take) as receiver:
        file = room.parent / "i.toml"
        api = f'[api]\nurl = "{receiver.url}"\nno_auth = true\n'
        table = f'[sinks.box]\ntype = "toy"\npin = "CANARY-pin-7"\n{FREE}'
        file.write_text(api + table)
        (room.parent / "events.jsonl").write_bytes(b"".join(event(i) + b"\n" for i in range(3)))
        code, said = await run(room, "check", "--config", str(file))
        assert code == 0, said
        assert f"box (toy): {receiver.url.rstrip('/')}/toys, the login of [api]" in said
        code, said = await run(room, "config", "show", "--config", str(file))
        assert (code, "CANARY" in said, 'pin = "***"' in said) == (0, False, True), said
        code, said = await run(room, "replay", "--config", str(file), str(room.parent / "events.jsonl"))
        assert code == 0, said
        (sent,) = seen
        assert (sent.path, sent.headers["x-pin"]) == ("/toys", "CANARY-pin-7")
        assert sent.body == b'{"toys":[%b]}' % b",".join(event(i) for i in range(3))
        file.write_text(api + table.replace("pin", "pim"))
        code, said = await run(room, "check", "--config", str(file))
        assert (code, "there is no setting sinks.box.pim; did you mean pin?" in said) == (2, True), said
        code, said = await run(room, "config", "schema")
        assert json.loads(said)["$defs"]["ToyConfig"]["properties"]["pin"]["description"] == "shown nowhere"


async def test_a_case_holds_the_sink_to_the_contract_of_all_sinks(room: Path) -> None:
    code = CASES + "import pytest; sys = __import__('sys'); sys.exit(pytest.main(sys.argv[1:]))"
    file = "tests/contract/sinks/test_contract.py"
    words = ("-vv", "-p", "no:cacheprovider", "-p", "no:xdist", file)
    exit_code, said = await run(room, *words, code=code)
    assert exit_code == 0, said
    assert said.count("[toy] PASSED") > 5, said
