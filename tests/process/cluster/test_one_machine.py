"""spool.workers: one command, with a server, edges and workers as its children; each of them is killed."""

import asyncio
import json
import os
import random
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingestd.app.cluster.local_server import find_program
from tests.machine import patience, patience_of_test
from tests.process.cli.run_support import Serving, post, starting
from tests.process.cli.support import COMMAND, Place
from tests.process.cluster.support import AnyEdge, ClusterProducer, ended
from tests.process.cluster.test_cluster import StrictApi, settled, until
from tests.process.soak.events import GROUP, Maker
from tests.receiver import Receiver
from tests.warm import warm

IN_FLIGHT = "ingestd_share_in_flight_events"
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(patience_of_test(180))]


class OneMachine:
    """As ``Cluster``, of which it has what ``settled`` asks."""

    def __init__(self, directory: Path, api: Receiver, more: str = "") -> None:
        self.directory = directory
        self.config = directory / "ingestd.toml"
        self.config.write_text(
            f'[spool]\nkind = "nats"\nworkers = 2\nmax_bytes = "64MiB"\n[state]\ndir = "{directory}/state"\n'
            f'[delivery]\norder_by = "{GROUP}"\n[batch]\nmax_age = "20ms"\n'
            f'[sinks.one]\ntype = "ingest_api"\nurl = "{api.url}/one/api/v2/events/ingest"\n'
            f'auth = {{ type = "none" }}\n{more}'
        )

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Serving]:
        env = {"PATH": str(Path(find_program() or "").parent), "NOTIFY_SOCKET": f"{self.directory}/notify"}
        async with starting(Place(self.directory), self.words, env=env) as serving:
            await self.ready(serving)
            yield serving

    @property
    def words(self) -> list[str]:
        listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        return ["run", "--config", str(self.config), *listen, "--log-format", "json"]

    async def ready(self, serving: Serving) -> None:
        line = await serving.said("ready")
        serving.admin_port, serving.ingest_port = (
            int(line[name].rpartition(":")[2]) for name in ("admin", "ingest")
        )

    def token(self) -> bytes:
        login = json.loads((self.directory / "state/nats/login.json").read_bytes())
        return str(login["token"]).encode()

    async def json(self, *words: str) -> Any:
        return await self.ask(*words, "--config", str(self.config), "--json")

    async def ask(self, *words: str) -> Any:
        process = await warm().start([*words], env={"PATH": ""})
        out, err = await process.communicate()
        assert process.returncode == 0, (words, out, err)
        return json.loads(out)


@asynccontextmanager
async def looking(serving: Serving) -> AsyncIterator[httpx.AsyncClient]:
    url = f"http://127.0.0.1:{serving.admin_port}"
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=patience(30), base_url=url) as client:
        yield client


async def pids(serving: Serving) -> dict[str, int]:
    return {one["name"]: one["pid"] for one in (await serving.status())["processes"]}


def is_gone(pid: int) -> bool:
    """Or waits for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def all_well_again(serving: Serving, name: str, producer: ClusterProducer) -> Any:
    """The process was started again, everything is ready, and a producer was answered since."""
    before = producer.answers

    async def is_so() -> bool:
        told = await serving.status()
        one = next(one for one in told["processes"] if one["name"] == name)
        others = [one.get("status", {"ready": True})["ready"] for one in told["processes"]]
        return bool(one["pid"] and one["restarts"] == 1 and told["ready"] and all(others)) and (
            producer.answers > before + 3
        )

    return is_so


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Its end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(f"{tmp_path}/notify")
        found.setblocking(False)
        yield found


async def test_whatever_of_one_machine_is_killed_comes_again_and_nothing_is_lost_or_doubled(
    tmp_path: Path, systemd: socket.socket
) -> None:
    async with StrictApi() as api:
        machine = OneMachine(tmp_path, api)
        async with machine.start() as serving:
            edges, stop = AnyEdge(random.Random(1)), asyncio.Event()
            edges.ports["both"] = serving.ingest_port
            producers = [ClusterProducer(f"p{n}", random.Random(n), ill=0.0, pause_s=0.1) for n in range(2)]
            tasks = [asyncio.create_task(one.work(edges, stop)) for one in producers]
            for name in ("edge-1", "worker-1", "nats-server"):
                os.kill((await pids(serving))[name], signal.SIGKILL)
                await until(all_well_again(serving, name, producers[0]))
            before = await pids(serving)
            file = machine.config.read_text()
            machine.config.write_text(f"{file}max_in_flight = 3\n")
            serving.send(signal.SIGHUP)
            await until(all_new(serving, before))
            machine.config.write_text(f"{file}max_in_flight = 3\n[log]\nlevel = 'debug'\n")
            serving.send(signal.SIGHUP)
            await serving.said("the configuration was read again")
            no_token = 'auth = { type = "bearer", token_file = "/nowhere" }'
            machine.config.write_text(file.replace('auth = { type = "none" }', no_token))
            serving.send(signal.SIGHUP)
            await serving.said("stays as it was: a process does not start with it")
            machine.config.write_text(file)
            await until(partial(all_run, serving))
            stop.set()
            await ended(tasks, serving)
            sink = await settled(machine)  # type: ignore[arg-type]
            given = [event for producer in producers for event in producer.acknowledged]
            assert [problem for producer in producers for problem in producer.problems] == []
            assert sorted(api.taken) == sorted(given)
            assert all(len(bodies) == 1 for bodies in api.bodies.values())
            assert sink["delivered"] == len(given)
            await until(partial(tells, serving, shares=4, delivered=len(given)))
            assert await serving.metric("ingestd_ready") == 1

            api.gate.clear()
            late = Maker("late", random.Random(3), ill=0.0).many(50, pad=0)
            assert (await post(serving.ingest_port, late)).status == 202
            await until(partial(have_all, serving, len(late)))  # what is not with them stays in the spool
            children = [*(await pids(serving)).values()]
            serving.send(signal.SIGTERM)
            await serving.said("shutting down all processes")
            api.gate.set()
            assert (await serving.finish()).code == 0
            assert sorted(api.taken) == sorted([*given, *late])
            assert [pid for pid in children if not is_gone(pid)] == []
            assert [one for one in notices(systemd) if "=1" in one] == ["READY=1", "STOPPING=1"]

        # Killed itself, it leaves nobody behind; the next one takes the spool as it is.
        async with cold(machine) as serving:
            children = await pids(serving)
            everybody = [serving.process.pid, *children.values()]
            assert len(everybody) == 7
            assert not any(machine.token() in arguments(pid) for pid in everybody)
            rss, shared_once = (memory_mb(everybody, kind) for kind in ("Rss", "Pss"))
            print(f"{len(everybody)} processes: {rss:.0f} MB, {shared_once:.0f} MB with what is shared once")
            assert shared_once < 350
            await serving.kill()
            await until(partial(all_gone, children.values()))
        async with machine.start() as serving:
            await until(partial(is_ready, serving))
            await serving.stop()


async def test_top_the_console_and_the_audit_file_tell_of_all_processes(tmp_path: Path) -> None:
    async with StrictApi() as api:
        machine = OneMachine(tmp_path, api)
        token = "of-an-operator-who-may-change-what-is-there"
        (tmp_path / "token").write_text(token)
        console = f'[admin.tokens.ann]\ntoken_file = "{tmp_path}/token"\nrole = "operator"\n'
        machine.config.write_text(machine.config.read_text() + console)
        given = Maker("p", random.Random(3), ill=0.0).many(60, pad=0)
        given[7] = given[7].replace(b'"ill":""', b'"ill":"yes"')
        more = [given[7].replace(b'"interactionId":"p.', b'"interactionId":"q.')]
        async with machine.start() as serving, looking(serving) as client:
            admin = f"http://127.0.0.1:{serving.admin_port}"
            api.refuse = b'"ill":"yes"'
            assert (await post(serving.ingest_port, given)).status == 202

            async def told() -> dict[str, Any]:  # what `top` shows, without a process for each look
                found: dict[str, Any] = (await client.get("/v1/overview")).json()
                return found

            async def all_told() -> bool:
                found = await told()
                (sink,) = found["sinks"] or [{"delivered": 0}]
                return bool(sink["delivered"] == 59 and found["letters"]["waiting"] == 1)

            await until(all_told)
            before = await serving.metrics()
            os.kill((await pids(serving))["worker-1"], signal.SIGKILL)
            await until(partial(all_run, serving))
            os.kill((await pids(serving))["admin"], signal.SIGKILL)  # who sums up what it had counted
            await until(partial(started_again, serving, "admin"))
            await until(all_told)
            after = await serving.metrics()
            counts = {key: value for key, value in before.items() if key[0] == "ingestd_sink_events_total"}
            assert sum(counts.values()) == 60
            assert {key: after[key] for key in counts} == counts

            async def is_whole() -> bool:  # of a share without an owner nobody tells
                return bool((await told())["ledger"]["accepted"] == 60)

            await until(is_whole)
            found = await machine.ask("top", admin, "--once", "--json")
            (sink,) = found["sinks"]
            assert (sink["name"], sink["type"], sink["state"]) == ("one", "ingest_api", "closed")
            assert (sink["delivered"], sink["dead_lettered"]) == (59, 1)  # what died is counted still
            assert found["producers"][0]["accepted"] == 60
            assert found["spool"]["max_bytes"] == 64 * 1024**2
            page = (await client.get("/")).text
            assert "60" in page
            assert ">one<" in page
            letters = (await client.get("/letters")).text
            assert "refused" in letters
            assert (await client.get("/configuration")).status_code == 200
            (letter,) = (await client.get("/v1/letters")).json()["letters"]
            assert (letter["reason"], letter["sink"]) == ("refused", "one")
            step = (await client.post("/v1/where", json={"key": given[3].decode()})).json()
            assert step["words"] == "It is delivered: one."
            assert (await client.post("/v1/letters/retry", json={})).status_code == 401
            client.headers["Authorization"] = f"Bearer {token}"
            corrected = given[7].replace(b'"ill":"yes"', b'"ill":"not"').decode()
            number = letter["id"]
            done = await client.post(f"/v1/letters/{number}/edit", content=corrected)
            assert (done.status_code, done.json()["changed"]) == (200, 1)
            await until(lambda: len(api.taken) == 60)

            async def waiting(count: int) -> bool:
                return bool((await told())["letters"]["waiting"] == count)

            await until(partial(waiting, 0))
            assert (await post(serving.ingest_port, more)).status == 202
            await until(partial(waiting, 1))
            assert (await machine.json("dlq", "purge", "--all", "--yes"))["purged"] == 1
            serving.send(signal.SIGHUP)
            await serving.said("read again")
            await serving.stop()
        lines = [json.loads(line) for line in (tmp_path / "state/audit.jsonl").read_text().splitlines()]
        events = [line["event"] for line in lines]
        assert events.count("PROCESS_STARTED") == 8
        assert [line["process"] for line in lines if line["event"] == "PROCESS_ENDED"] == [
            "worker-1",
            "admin",
        ]
        assert [line["who"] for line in lines if line["event"] == "LETTER_EDITED"] == ["ann"]
        assert [line["count"] for line in lines if line["event"] == "LETTERS_PURGED"] == [1]
        assert events.index("RUN_STARTED") < events.index("PROCESS_ENDED")
        assert events[-1] == "RUN_FINISHED"
        assert events.count("CONFIGURATION_READ") == 1
        assert token not in (tmp_path / "state/audit.jsonl").read_text()


async def started_again(serving: Serving, name: str) -> bool:
    try:
        told = (await serving.status())["processes"]
    except (OSError, EOFError, ValueError, AssertionError):
        return False  # the admin address itself begins again
    return bool(next(one for one in told if one["name"] == name)["restarts"] and await all_run(serving))


async def have_all(serving: Serving, count: int) -> bool:
    """The workers have read so many events that are not sent yet."""
    found = await serving.metrics()
    return sum(value for (name, _), value in found.items() if name == IN_FLIGHT) == count


@pytest.mark.slow(
    "tests/process/cluster/test_cluster.py::test_partitions_are_changed_while_events_come_and_a_copy_is_known_still",
    "tests/process/cluster/test_resize.py::test_workers_finish_a_change_that_was_begun_and_old_events_go_first",
)
async def test_partitions_are_changed_below_a_supervisor_and_stay_so_when_it_starts_again(
    tmp_path: Path,
) -> None:
    async with StrictApi() as api:
        machine = OneMachine(tmp_path, api)
        maker = Maker("p", random.Random(3), ill=0.0)
        given = maker.many(60, pad=0)
        async with machine.start() as serving:
            assert (await post(serving.ingest_port, given)).status == 202
            words = ["spool", "resize", "3", "--config", str(machine.config)]
            process = await warm().start(words, env={"PATH": ""})
            out, err = await process.communicate()
            assert out.startswith(b"4 partitions are 3 now"), err
            given += (more := maker.many(60, pad=0))
            assert (await post(serving.ingest_port, [*more, *given[:60]])).status == 202
            await until(lambda: len(api.taken) == 120)
            await serving.stop()
        async with machine.start() as serving:  # it makes the streams, where they are not there
            given += (more := maker.many(60, pad=0))
            assert (await post(serving.ingest_port, more)).status == 202
            await until(lambda: len(api.taken) == 180)
            sink = await settled(machine)  # type: ignore[arg-type]
            assert (sink["accepted"], sink["delivered"], sink["duplicate"]) == (240, 180, 60)
            assert sorted(api.taken) == sorted(given)
            await serving.stop()


async def tells(serving: Serving, *, shares: int, delivered: int) -> bool:
    """In its metrics; a share that goes to another worker has no owner, and no figures, for a moment."""
    found = await serving.metrics()
    counts = [
        value
        for (name, labels), value in found.items()
        if name == "ingestd_share_events_total" and ("outcome", "delivered") in labels
    ]
    owned = sum(name == IN_FLIGHT for name, _ in found)
    return (owned, len(counts), sum(counts)) == (shares, shares, delivered)


async def all_run(serving: Serving) -> bool:
    told = (await serving.status())["processes"]
    return all(one["pid"] and one.get("status", {"ready": True})["ready"] for one in told)


def all_new(serving: Serving, before: dict[str, int]) -> Any:
    """Edges and workers are other processes, and ready; the server and the admin address are the same."""

    async def is_so() -> bool:
        told = await serving.status()
        now = {one["name"]: one["pid"] for one in told["processes"]}
        new = {name for name, pid in now.items() if pid and pid != before[name]}
        ready = all(one.get("status", {"ready": True})["ready"] for one in told["processes"])
        return bool(new == {"edge-1", "edge-2", "worker-1", "worker-2"} and ready and told["ready"])

    return is_so


def notices(systemd: socket.socket) -> list[str]:
    """All that came; only the supervisor may say something."""
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(systemd.recv(65_536).decode())
    return found


def all_gone(pids: Iterable[int]) -> bool:
    return all(map(is_gone, pids))


async def is_ready(serving: Serving) -> bool:
    return not await serving.reasons()


def arguments(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def memory_mb(pids: list[int], kind: str) -> float:
    """Rss, or Pss: what several share is counted once."""
    rows = [Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in pids]
    return sum(int(row.split()[1]) for one in rows for row in one if row.startswith(f"{kind}:")) / 1024


@asynccontextmanager
async def cold(machine: OneMachine) -> AsyncIterator[Serving]:
    """In an interpreter of its own; says how long it takes until /readyz says so."""
    began = time.monotonic()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")}
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *machine.words, env=kept, stderr=asyncio.subprocess.PIPE
    )
    serving = Serving(process)  # type: ignore[arg-type]
    try:
        await machine.ready(serving)
        await until(partial(is_ready, serving))
        print(f"ready after {time.monotonic() - began:.2f} s")
        yield serving
    finally:
        serving.send(signal.SIGKILL)
        await process.wait()


async def test_a_full_stream_is_told_at_the_one_address_with_the_sink_that_holds_it(tmp_path: Path) -> None:
    """One of the edges was told so by the server; nobody was sent to the other."""
    async with StrictApi() as api:
        machine, maker = OneMachine(tmp_path, api), Maker("p", random.Random(3), ill=0.0)
        machine.config.write_text(machine.config.read_text().replace('"64MiB"', '"1MiB"'))
        api.busy = True
        async with machine.start() as serving:
            while (answer := await post(serving.ingest_port, maker.many(100, pad=300))).status == 202:
                pass
            assert (answer.status, b"is full" in answer.body) == (503, True)

            async def names_it() -> bool:
                reasons = await serving.reasons()
                return bool(reasons) and re.search(r"wait for one: .*500", reasons[0]) is not None

            await until(names_it)
            words = r"spool: holds \d+ of 1048576 bytes; \d+ of \d+ chunks wait for one: .*500.*"
            admin = f"http://127.0.0.1:{serving.admin_port}"

            async def top_names_it() -> bool:
                found = await machine.ask("top", admin, "--once", "--json")
                return not found["ready"] and re.fullmatch(words, *found["reasons"]) is not None

            (reason,) = await serving.reasons()
            assert re.fullmatch(words, reason), reason
            await until(top_names_it)
            assert (await serving.metric("ingestd_ready")) == 0
            api.busy = False
            await until(partial(is_ready, serving))
            await serving.stop()


@pytest.mark.slow(
    "tests/process/cluster/test_forgotten_sinks.py::test_a_forgotten_sink_stays_forgotten_though_the_server_is_killed",
    "tests/process/cluster/test_forgotten_sinks.py::test_the_usual_sink_of_a_file_that_names_none_is_one_of_its_configuration",
)
async def test_a_sink_that_was_taken_out_is_shown_no_more_and_what_gathers_for_it_is_told(
    tmp_path: Path,
) -> None:
    async with StrictApi() as api:
        url = f'url = "{api.url}/two/api/v2/events/ingest"'
        table = f'[sinks.two]\ntype = "ingest_api"\n{url}\nauth = {{ type = "none" }}\n'
        machine, maker = OneMachine(tmp_path, api), Maker("p", random.Random(3), ill=0.0)
        file = machine.config.read_text()
        machine.config.write_text(file + table)
        async with machine.start() as serving:
            assert (await post(serving.ingest_port, maker.many(20, pad=0))).status == 202
            await until(partial(are_shown, machine, serving, {"one": 20, "two": 20}))
            before = await pids(serving)
            machine.config.write_text(file)
            serving.send(signal.SIGHUP)
            await until(all_new(serving, before))
            assert (await post(serving.ingest_port, maker.many(30, pad=0))).status == 202
            await until(partial(are_shown, machine, serving, {"one": 50}))
            assert [sink["name"] for sink in (await serving.status())["sinks"]] == ["one"]
            line = await serving.said("though no worker sends to it")
            words = r"(0|30) events wait for two, .*`ingestd spool forget two --config FILE` drops them"
            assert re.fullmatch(words, line["message"]), line
            assert line["level"] == "warning"
            os.kill((await pids(serving))["nats-server"], signal.SIGKILL)  # they join again
            await until(partial(started_again, serving, "nats-server"))
            await serving.stop()
            assert serving.raw.count("though no worker sends to it") == 1

        async def command(*words: str, answer: bytes = b"") -> tuple[int, str, str]:
            (tmp_path / "answer").write_bytes(answer)
            with (tmp_path / "answer").open("rb") as given:
                words = (*words, "--config", str(machine.config))
                process = await warm().start(words, env={"PATH": ""}, stdin=given.fileno())
            out, err = await process.communicate()
            return process.returncode or 0, out.decode(), err.decode()

        sinks = (await machine.json("spool", "stat"))["sinks"]
        assert [(one["name"], one["configured"], one["in_flight"]) for one in sinks] == [
            ("one", True, 0),
            ("two", False, 30),
        ]
        assert "\ntwo is not in this configuration, " in (await command("spool", "stat"))[1]
        words = r"Drop up to 30 events of sink two \((\d+) chunks; no other sink waits for \1 of them\)\?"
        code, _, err = await command("spool", "forget", "two", answer=b"n\n")
        assert code == 1
        assert re.match(words, err), err
        _, out, _ = await command("spool", "forget", "two", answer=b"y\n")
        assert out.startswith("dropped up to 30 events of sink two ("), out
        assert [one["name"] for one in (await machine.json("spool", "stat"))["sinks"]] == ["one"]


async def are_shown(machine: OneMachine, serving: Serving, delivered: dict[str, int]) -> bool:
    found = await machine.ask("top", f"http://127.0.0.1:{serving.admin_port}", "--once", "--json")
    return {one["name"]: one["delivered"] for one in found["sinks"]} == delivered
