"""Events as they pass through several processes, for somebody who looks."""

import asyncio
import json
import os
import random
import re
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.event_api import event
from tests.machine import patience_of_test
from tests.process.admin.test_tap import looking
from tests.process.cli.run_support import Serving, post
from tests.process.cluster.test_cluster import StrictApi, one_sink, until
from tests.process.cluster.test_one_machine import OneMachine, pids
from tests.process.cluster.test_parked_sinks import OF_A_VIEWER, asking, restarted, tokens
from tests.process.soak.events import Maker
from tests.warm import WarmProcess, warm

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(patience_of_test(180))]
MASKED = '[admin]\nredact = ["$.routingMetadata.queueId"]\n'


def machine_of(directory: Path, api: StrictApi) -> OneMachine:
    return OneMachine(directory, api, MASKED + tokens(directory))


async def test_events_of_all_processes_are_shown_with_what_became_of_them(tmp_path: Path) -> None:
    async with StrictApi() as api:
        api.refuse = b'"note":"bad"'
        machine = machine_of(tmp_path, api)
        async with machine.start() as serving:
            async with looking(serving) as one, looking(serving, what="dead_lettered") as dead:
                await until(lambda: all_are_shown(one.lines) and all_are_shown(dead.lines))
                body = [event(number, note="good") for number in range(15)]
                body += [event(20, note="bad"), event(1, note="good"), b'{"a":1}']
                assert (await post(serving.ingest_port, body)).status == 202
                await until(lambda: counts(one.lines)["delivered"] == 15)
                assert (await post(serving.ingest_port, [event(2, note="good")])).status == 202
                await until(lambda: len(shown(one.lines)) == 36)
                assert counts(one.lines) == {
                    "accepted": 17,  # an edge knows copies within a request only
                    "duplicate": 2,
                    "rejected": 1,
                    "delivered": 15,
                    "dead_lettered": 1,
                }
                await until(lambda: bool(shown(dead.lines)))
                (only,) = shown(dead.lines)
                assert (only["what"], only["sink"], "refused" in only["why"]) == (
                    "dead_lettered",
                    "one",
                    True,
                )
                queues = {
                    line["event"].get("routingMetadata", {}).get("queueId") for line in shown(one.lines)
                }
                assert queues == {"***", None}
                assert {(line["what"], line["sink"]) for line in shown(one.lines)} == {
                    ("accepted", None),
                    ("duplicate", None),
                    ("duplicate", "one"),
                    ("rejected", None),
                    ("delivered", "one"),
                    ("dead_lettered", "one"),
                }
            command = asyncio.create_task(tap(serving, "--limit", "3", "--what", "accepted"))
            await until(partial(looks, serving, command))
            code, out, err = await command
            assert (code, out.count("accepted")) == (0, 3), (out, err)
            await serving.stop()


async def tap(serving: Serving, *words: str) -> tuple[int, str, str]:
    process = await warm().start(["tap", f"http://127.0.0.1:{serving.admin_port}", *words], env={"PATH": ""})
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def looks(serving: Serving, command: "asyncio.Task[tuple[int, str, str]]") -> bool:
    """Events pass until it has seen enough."""
    given = Maker(os.urandom(4).hex(), random.Random(3), ill=0.0).many(3, pad=0)
    assert (await post(serving.ingest_port, given)).status == 202
    return command.done()


@pytest.mark.slow(
    "tests/process/cluster/test_tap.py::test_a_command_asks_edges_and_workers_wherever_they_are",
    "tests/process/cluster/test_tap.py::test_events_of_all_processes_are_shown_with_what_became_of_them",
    "tests/process/admin/test_tap.py::test_it_shows_what_matches_ends_at_its_limit_and_refuses_kindly",
    "tests/process/admin/test_tap.py::test_who_leaves_makes_room_though_no_event_comes_and_leaves_no_trace",
)
async def test_who_looks_is_told_what_was_left_out_and_which_process_is_down(tmp_path: Path) -> None:
    async with StrictApi() as api:
        machine = machine_of(tmp_path, api)
        async with machine.start() as serving, asking(serving, "") as client:
            maker = Maker("p", random.Random(3), ill=0.0)
            async with looking(serving) as one:
                await until(lambda: all_are_shown(one.lines))
                for _ in range(5):  # the whole thousand is told of: shown, or that it was left out
                    assert (await post(serving.ingest_port, maker.many(200, pad=0))).status == 202
                await until(lambda: len(shown(one.lines)) + left_out(one.lines) == 2000)
                assert 0 < len(shown(one.lines)) < 2000
                for name in ("worker-1", "edge-2"):
                    os.kill((await pids(serving))[name], signal.SIGSTOP)
                    silent = f"{name} does not answer: what it does with events is not shown"
                    await until(lambda: silent in notes(one.lines))  # noqa: B023
                    os.kill((await pids(serving))[name], signal.SIGKILL)
                    await until(partial(restarted, serving, name))
                    await until(lambda: f"{name} is shown again" in notes(one.lines))  # noqa: B023
                os.kill((await pids(serving))["nats-server"], signal.SIGKILL)
                await until(lambda: "what passes is shown again" in notes(one.lines))
                assert any("nothing is shown until it is back" in note for note in notes(one.lines))
                await until(partial(restarted, serving, "nats-server"))

                before = counts(one.lines)

                async def an_event_is_shown() -> bool:
                    assert (await post(serving.ingest_port, maker.many(2, pad=0))).status == 202
                    now = counts(one.lines)
                    return all(now[what] > before[what] for what in ("accepted", "delivered"))

                await until(an_event_is_shown)
                async with asking(serving, OF_A_VIEWER) as viewer:
                    assert (await viewer.get("/v1/tap", params={"sink": "onee"})).status_code == 404
                for wrong in ({"what": "nothing"}, {"when": "{"}, {"when": "[]"}, {"limit": "many"}):
                    answer = await client.get("/v1/tap", params=wrong)
                    assert answer.status_code == 400, wrong
                far = {"X-Forwarded-For": "203.0.113.7"}
                assert (await client.get("/v1/tap", headers=far)).status_code == 401
                async with looking(serving), looking(serving), looking(serving, when="{}") as last:
                    answer = await client.get("/v1/tap")
                    assert (answer.status_code, "viewers are connected already" in answer.text) == (400, True)
                    await until(lambda: all_are_shown(last.lines))
                await until(partial(there_is_room, serving))  # of those who have gone
            # who looks while the service ends sees the end
            words = ["tap", f"http://127.0.0.1:{serving.admin_port}", "--json"]
            looking_on: list[WarmProcess] = []

            async def a_command_looks() -> bool:
                """Those who have gone may not have made room yet: then it is refused."""
                command = await warm().start(words, env={"PATH": ""})
                assert command.stdout
                if await command.stdout.readline():  # what is shown already; who is refused is told elsewhere
                    looking_on.append(command)
                    return True
                _, err = await command.communicate()
                assert (command.returncode, b"viewers are connected already" in err) == (2, True), err
                return False

            await until(a_command_looks)
            (command,) = looking_on
            await serving.stop()
            _, err = await command.communicate()
            assert command.returncode in (0, 2)
            assert b"Traceback" not in err


async def test_a_command_asks_edges_and_workers_wherever_they_are(tmp_path: Path) -> None:
    async with (
        StrictApi() as api,
        one_sink(tmp_path, api, more=MASKED) as cluster,
        cluster.start("--edge") as edge,
        cluster.start("--worker") as worker,
    ):
        for words, told in (
            (["--when", "{"], "the pattern is not JSON"),
            (["--sink", "two"], "there is no sink two"),
        ):
            code, _, err = await cluster.command("tap", *words)
            assert (code, told in err, "Traceback" in err) == (2, True, False), err
        words = ["tap", "--json", "--limit", "8", "--config", str(cluster.config)]
        command = await warm().start(words, env={"PATH": ""})
        assert command.stdout
        names = [(await one.status())["name"] for one in (edge, worker)]
        lines: list[dict[str, Any]] = []
        # one after the other, where one of them is late
        while not all(any(name in note for note in notes(lines)) for name in names):
            lines.append(json.loads(await command.stdout.readline()))
        await worker.kill()
        while not any("does not run now" in note and names[1] in note for note in notes(lines)):
            lines.append(json.loads(await command.stdout.readline()))
        async with cluster.start("--worker") as other:
            name = (await other.status())["name"]
            while f"what passes {name} is shown" not in notes(lines):
                lines.append(json.loads(await command.stdout.readline()))
            given = Maker("p", random.Random(3), ill=0.0).many(4, pad=0)
            assert (await post(edge.ingest_port, given)).status == 202
            await until(lambda: sorted(api.taken) == sorted(given))
            out, err = await command.communicate()
            assert command.returncode == 0, (name, err)
            lines += map(json.loads, out.splitlines())
            assert counts(lines)["accepted"] == 4
            assert sum(counts(lines).values()) == 8
            assert {line["event"]["routingMetadata"]["queueId"] for line in shown(lines)} == {"***"}
            await other.stop()
            await edge.stop()


async def there_is_room(serving: Serving) -> bool:
    async with asking(serving, "") as client, client.stream("GET", "/v1/tap") as answer:
        return answer.status_code == 200


ALL = {"edge-1", "edge-2", "worker-1", "worker-2"}


def all_are_shown(lines: list[dict[str, Any]]) -> bool:
    """They are told in one line, but one that is late or did not run yet in a line of its own."""
    told = [re.fullmatch("(?:what passes )?(.+) is shown(?: again)?", note) for note in notes(lines)]
    return {name for one in told if one for name in one[1].split(", ")} >= ALL


def notes(lines: list[dict[str, Any]]) -> list[str]:
    return [line["note"] for line in lines if "note" in line]


def left_out(lines: list[dict[str, Any]]) -> int:
    return sum(line["missed"] for line in lines if "missed" in line)


def shown(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if "what" in line]


def counts(lines: list[dict[str, Any]]) -> Counter[str]:
    return Counter(line["what"] for line in shown(lines))
