"""``ingestd publish`` as a process."""

import json
import signal

import pytest

from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.faults import parse_faults
from ingestd.sandbox.server import Sandbox
from ingestd.sinks.cloudevents import PATH
from tests.integration.app.test_publish import EVENT, SECRET, SINKS, TAKEN, invoke
from tests.process.cli.support import Place, Running
from tests.receiver import Action, Hang, Receiver, Request, in_turn


@pytest.mark.anyio
async def test_the_command_shows_the_fate_and_leaves_nothing_behind(place: Place) -> None:
    options = SandboxOptions(schema=None)
    async with Sandbox(options).serve() as sandbox:
        where = ("--sandbox", "--api", sandbox.url)
        shown = await place.run(
            "publish", "--type", "t", "--source", "s", "--data", '{"a":1}', *where, "--wait=20s"
        )
        assert (shown.code, shown.err) == (0, "")
        accepted, delivered = shown.out.splitlines()
        assert accepted.startswith("accepted   evt-")
        assert delivered.startswith("delivered  evt-")
        code, out = await invoke("-", *where, "--json", given=EVENT)
        fate = json.loads(out)
    assert (code, fate["outcome"], fate["attempts"], fate["interrupted"]) == (0, "accepted", 1, False)
    assert list(place.directory.iterdir()) == []


@pytest.mark.anyio
async def test_ctrl_c_says_what_is_known(place: Place) -> None:
    async def interrupt(running: Running, api: Receiver, requests: int) -> str:
        await api.until(lambda api: len(api.requests) == requests)
        running.send(signal.SIGINT)
        finished = await running.finish()
        assert finished.code == 130
        return finished.err

    posts = in_turn(Hang(), TAKEN)

    def script(request: Request) -> Action:
        found = posts(request) if request.method == "POST" else Hang()
        assert isinstance(found, Action)
        return found

    async with Receiver(script) as api:
        words = ("publish", EVENT.decode(), "--api", api.url, "--no-auth", "--wait")
        async with place.start(*words) as running:
            said = await interrupt(running, api, 1)
        assert "not known whether the API has taken it; the same event again has the same key" in said
        async with place.start(*words) as running:
            said = await interrupt(running, api, 3)
        assert "interrupted: accepted as evt/1; what became of it is not known" in said


@pytest.mark.anyio
async def test_an_event_that_the_sandbox_accepts_and_then_fails_ends_with_3(place: Place) -> None:
    options = SandboxOptions(schema=None, faults=parse_faults(["status-fail:1"]))
    async with Sandbox(options).serve() as sandbox:
        (place / "c.toml").write_text(SINKS.format(url=sandbox.url, secret=SECRET))
        words = ("--config", str(place / "c.toml"), "--sink", "bridge", "--wait=20s")
        shown = await place.run("publish", EVENT.decode(), *words)
        assert shown.code == 3
        assert shown.out.startswith("accepted   evt-")
        assert shown.err.startswith("ingestd: failed: ")
        assert "delivery.failed" in shown.err
        assert sandbox.sandbox.stats().paths[PATH].events == 1
