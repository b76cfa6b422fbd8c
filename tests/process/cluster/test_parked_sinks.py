"""A sink that a person has parked, on a spool that several processes share: nothing is sent there, whoever
dies, joins or begins again."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from anyio import to_thread

from ingestd.app.cluster.judgement import open_connection
from ingestd.app.cluster.park import change
from ingestd.app.cluster.spool import stat_of
from ingestd.app.console.service_model import PARKED
from ingestd.cluster.membership import Member, ParkedHere
from ingestd.config import load
from tests.machine import patience, patience_of_test
from tests.nats_server import nats_server
from tests.process.cli.run_support import Serving, post
from tests.process.cluster.rounds import play
from tests.process.cluster.support import Cluster, stream_client
from tests.process.cluster.test_cluster import StrictApi, one_sink, settled, until
from tests.process.cluster.test_one_machine import OneMachine, all_run, pids
from tests.process.soak.events import Maker
from tests.receiver import Action, Reply, Request
from tests.warm import warm

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(patience_of_test(180))]
TOKEN = "of-an-operator-who-may-change-what-is-there"
OF_A_VIEWER = "of-a-viewer-who-may-only-look-at-what-is-there"


def tokens(directory: Path) -> str:
    """Of two who may look; one of them may change something."""
    (directory / "token").write_text(TOKEN)
    (directory / "viewer").write_text(OF_A_VIEWER)
    return (
        f'[admin.tokens.ann]\ntoken_file = "{directory}/token"\nrole = "operator"\n'
        f'[admin.tokens.bob]\ntoken_file = "{directory}/viewer"\nrole = "viewer"\n'
    )


def machine_of(directory: Path, api: StrictApi) -> OneMachine:
    """With a second sink."""
    second = f'[sinks.two]\ntype = "ingest_api"\nurl = "{api.url}/two/api/v2/events/ingest"\n'
    return OneMachine(directory, api, f'{second}auth = {{ type = "none" }}\n{tokens(directory)}')


@asynccontextmanager
async def asking(serving: Serving, token: str = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://127.0.0.1:{serving.admin_port}"
    async with httpx.AsyncClient(
        trust_env=False, verify=False, timeout=patience(30), base_url=url, headers=headers
    ) as client:
        yield client


async def sink_of(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    sinks = (await client.get("/v1/overview")).json()["sinks"]
    found: dict[str, Any] = next((sink for sink in sinks if sink["name"] == name), {})
    return found


async def delivered(client: httpx.AsyncClient, **counts: int) -> bool:
    return all([(await sink_of(client, name)).get("delivered") == count for name, count in counts.items()])


async def command(machine: OneMachine, *words: str) -> tuple[int, str, str]:
    process = await warm().start([*words, "--config", str(machine.config)], env={"PATH": ""})
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def audited(directory: Path, event: str) -> list[dict[str, Any]]:
    lines = (directory / "state/audit.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


async def all_obey(client: httpx.AsyncClient) -> bool:
    told: dict[str, Any] = (await client.post("/v1/sinks/one/park")).json()
    assert told["words"][0] == "one is parked: nothing is sent to it"
    return len(told["words"]) == 1


async def test_a_parked_sink_stays_so_though_everything_dies_and_begins_again(tmp_path: Path) -> None:
    async with StrictApi() as api:
        machine, maker = machine_of(tmp_path, api), Maker("p", random.Random(3), ill=0.0)

        async def give(serving: Serving) -> None:
            assert (await post(serving.ingest_port, maker.many(30, pad=0))).status == 202

        async with machine.start() as serving, asking(serving) as client:
            await give(serving)
            await until(partial(delivered, client, one=30, two=30))
            done = await client.post("/v1/sinks/one/park")
            assert (done.status_code, done.json()["changed"]) == (200, 1)
            await until(partial(all_obey, client))  # one that is kept waiting is named until then
            before = came(api, "one")
            shown = await sink_of(client, "one")
            assert (shown["state"], shown["parked"]) == ("parked", "person")
            await give(serving)
            await until(partial(delivered, client, one=30, two=60))
            page = (await client.get("/")).text
            assert "Resume one" in page
            assert "Park two" in page
            assert (await client.post("/v1/sinks/one/park")).json()["changed"] == 0
            for name in ("worker-1", "worker-2", "nats-server", "admin"):  # shares change hands
                os.kill((await pids(serving))[name], signal.SIGKILL)
                await until(partial(restarted, serving, name))
                await give(serving)
            await until_in_spool(machine, two=180)
            await until(partial(is_shown, client, "one", "person"))
            assert (await sink_of(client, "one"))["parked"] == "person"
            assert await serving.metric("ingestd_sink_parked", sink="one") == 1
            assert came(api, "one") == before
            await serving.stop()
        async with machine.start() as serving, asking(serving) as client:
            await give(serving)
            await until_in_spool(machine, two=210)
            await until(partial(is_shown, client, "one", "person"))
            assert (await sink_of(client, "one"))["parked"] == "person"
            assert (await machine.json("spool", "stat"))["parked"].keys() == {"one"}
            assert came(api, "one") == before
            assert await command(machine, "spool", "resume", "one") == (0, "one is resumed\n", "")
            await until(lambda: came(api, "one") > before)
            await until_in_spool(machine, one=210, two=210)
            assert (await machine.json("spool", "stat"))["parked"] == {}
            await until(partial(is_shown, client, "one", None))
            await serving.stop()
        noted = [(line["state"], line.get("who")) for line in audited(tmp_path, "SINK_PARKED")]
        assert noted == [("person", "ann"), ("resumed", None)]


async def until_in_spool(machine: OneMachine, **delivered: int) -> None:
    """So many events of these sinks are delivered, as the spool says: processes that died know nothing."""
    settings = load(str(machine.config), {})
    async with open_connection(settings) as connection:

        async def is_so() -> bool:
            found = (await stat_of(connection, settings))["sinks"]
            sinks = {one["name"]: one["delivered"] for one in found}
            return sinks | delivered == sinks

        await until(is_so)


@pytest.mark.slow(
    "tests/process/cluster/test_parked_sinks.py::test_a_parked_sink_stays_so_though_everything_dies_and_begins_again",
    "tests/process/cluster/test_parked_sinks.py::test_workers_of_a_spool_on_other_machines_obey_too",
)
async def test_requests_that_were_out_when_a_sink_was_parked_wait_for_the_next_owner(tmp_path: Path) -> None:
    async with StrictApi() as api:
        machine = machine_of(tmp_path, api)
        async with machine.start() as serving, asking(serving) as client:
            api.gate.clear()
            given = Maker("p", random.Random(3), ill=0.0).many(40, pad=0)
            assert (await post(serving.ingest_port, given)).status == 202
            await until(lambda: came(api, "one") >= 1)
            done = (await client.post("/v1/sinks/one/park")).json()
            assert "requests that are out" in done["words"][0]
            before = came(api, "one")
            for name in ("worker-1", "worker-2"):
                os.kill((await pids(serving))[name], signal.SIGKILL)
            # with no worker there: it is parked, and that is said
            words = (await client.post("/v1/sinks/one/park")).json()["words"]
            assert words[0] == "one is parked: nothing is sent to it"
            for name in ("worker-1", "worker-2"):
                await until(partial(restarted, serving, name))
            api.gate.set()
            await until_in_spool(machine, two=40)
            assert came(api, "one") == before
            await serving.stop()
        # while nothing runs, too
        assert await command(machine, "spool", "park", "two") == (0, "two is parked\n", "")
        assert await command(machine, "spool", "park", "two") == (0, "two was parked before\n", "")
        assert await command(machine, "spool", "resume", "one") == (0, "one is resumed\n", "")
        before = came(api, "two")
        async with machine.start() as serving:
            more = Maker("q", random.Random(4), ill=0.0).many(40, pad=0)
            assert (await post(serving.ingest_port, more)).status == 202
            await until_in_spool(machine, one=80, two=40)
            assert all(len(bodies) == 1 for bodies in api.bodies.values())
            assert sorted(api.taken) == sorted([*given, *given, *more])
            assert came(api, "two") == before
            await serving.stop()
        noted = [(line["sink"], line["state"]) for line in audited(tmp_path, "SINK_PARKED")]
        assert noted == [("one", "person"), ("two", "person"), ("one", "resumed")]


def came(api: StrictApi, sink: str) -> int:
    return sum(request.path.startswith(f"/{sink}/") for request in api.requests)


async def is_shown(client: httpx.AsyncClient, sink: str, parked: str | None) -> bool:
    return bool((await sink_of(client, sink)).get("parked", "") == parked)


async def restarted(serving: Serving, name: str) -> bool:
    try:
        told = (await serving.status())["processes"]
    except (httpx.TransportError, OSError, EOFError, AssertionError, ValueError):
        return False  # the admin address itself begins again
    one = next(one for one in told if one["name"] == name)
    return bool(one["restarts"] and await all_run(serving))


async def test_who_may_park_and_what_is_said_to_the_others(tmp_path: Path) -> None:
    async with StrictApi() as api:
        machine = machine_of(tmp_path, api)
        async with machine.start() as serving, asking(serving) as client:
            await until(partial(is_shown, client, "one", None))
            async with asking(serving, "") as nobody, asking(serving, OF_A_VIEWER) as viewer:
                assert (await nobody.post("/v1/sinks/one/park")).status_code == 401
                assert (await viewer.post("/v1/sinks/one/park")).status_code == 403
            missing = await client.post("/v1/sinks/onee/park")
            assert (missing.status_code, missing.json()["error"]) == (
                404,
                "there is no sink onee here; did you mean one?",
            )
            for wrong in ("*", "one.*", "a%20b", "%00", "x" * 300):
                for do in ("park", "resume"):
                    answer = await client.post(f"/v1/sinks/{wrong}/{do}")
                    assert answer.status_code == 404, (wrong, do, answer.text)
            code, _, err = await command(machine, "spool", "park", "onee")
            assert (code, "did you mean one?" in err, "Traceback" in err) == (2, True, False), err
            # however many press at once, each is told what it has changed, and the last state is one
            total = 0
            for _ in range(3):
                answers = await asyncio.gather(
                    *(client.post(f"/v1/sinks/one/{do}") for do in ("park", "resume", "park", "resume"))
                )
                assert [one.status_code for one in answers] == [200] * 4
                changed = [one.json()["changed"] for one in answers]
                parked = (await machine.json("spool", "stat"))["parked"]
                assert (await sink_of(client, "one"))["parked"] == ("person" if parked else None)
                assert sum(changed) >= 1
                total += sum(changed)

            def all_is_noted() -> bool:
                noted = [line["state"] for line in audited(tmp_path, "SINK_PARKED")]
                return len(noted) == total and noted.count("person") - noted.count("resumed") == len(parked)

            await until(all_is_noted)
            # a request that is out is told, and nothing more follows it
            await client.post("/v1/sinks/one/resume")
            api.gate.clear()
            given = Maker("q", random.Random(4), ill=0.0).many(1, pad=0)
            assert (await post(serving.ingest_port, given)).status == 202
            await until(lambda: len(api.came) == 2)
            words = (await client.post("/v1/sinks/one/park")).json()["words"]
            assert words == ["one is parked: nothing is sent to it, but for 1 requests that are out"]
            api.gate.set()
            assert await command(machine, "spool", "park", "one") == (0, "one was parked before\n", "")
            # no server, no answer but in words
            os.kill((await pids(serving))["nats-server"], signal.SIGSTOP)
            stopped = (await pids(serving))["nats-server"]
            answer = await client.post("/v1/sinks/one/resume")
            os.kill(stopped, signal.SIGCONT)
            assert answer.status_code == 400
            assert "NATS" in answer.json()["error"]
            await serving.stop()


class ShutApi(StrictApi):
    """``shut``: it refuses us, whatever we send."""

    shut = True

    async def _answer(self, request: Request) -> Action:
        return Reply(403) if self.shut else await super()._answer(request)


async def test_a_sink_is_tried_at_once_by_the_worker_that_has_it(tmp_path: Path) -> None:
    async with ShutApi() as api:
        machine = OneMachine(tmp_path, api, tokens(tmp_path))
        async with machine.start() as serving, asking(serving) as client:
            given = Maker("p", random.Random(3), ill=0.0).many(1, pad=0)
            assert (await post(serving.ingest_port, given)).status == 202
            gaps = []
            for count, least_s in ((5, 4.0), (7, 7.5), (9, 7.5)):  # by itself it waits so long at least
                await until(lambda: len(api.requests) >= count)  # noqa: B023
                done = (await client.post("/v1/sinks/one/probe")).json()
                assert done == {
                    "dry_run": False,
                    "selected": 1,
                    "changed": 1,
                    "words": ["the next request goes out now"],
                }
                await until(lambda: len(api.requests) > count)  # noqa: B023
                gaps.append((api.requests[-1].at - api.requests[-2].at) / least_s)
                if gaps[-1] < 1:
                    break
            assert min(gaps) < 1, gaps
            await client.post("/v1/sinks/one/park")
            done = (await client.post("/v1/sinks/one/probe")).json()
            assert (done["changed"], done["words"]) == (0, [PARKED])
            await client.post("/v1/sinks/one/resume")
            api.shut = False
            page = (await client.get("/")).text
            assert "Try one now" in page
            assert (await client.post("/v1/sinks/one/probe")).json()["changed"] == 1
            await until(lambda: api.taken == given)

            async def nothing_to_do() -> bool:
                done = (await client.post("/v1/sinks/one/probe")).json()
                return bool(done["words"] == ["it is not paused: nothing to probe"])

            await until(nothing_to_do)
            for token, status in ((OF_A_VIEWER, 403), ("", 401), ("wrong", 401)):
                async with asking(serving, token) as other:
                    assert (await other.post("/v1/sinks/one/probe")).status_code == status
            assert (await client.post("/v1/sinks/onee/probe")).status_code == 404
            stopped = (await pids(serving))["worker-2"]
            os.kill(stopped, signal.SIGSTOP)
            words = (await client.post("/v1/sinks/one/probe")).json()["words"]
            assert words[1:] == ["worker-2 does not answer: what it sends is not tried"]
            os.kill(stopped, signal.SIGCONT)
            await serving.stop()
        assert {line["who"] for line in audited(tmp_path, "SINK_PROBED")} == {"ann"}


async def test_workers_of_a_spool_on_other_machines_obey_too(tmp_path: Path) -> None:
    async with (
        StrictApi() as api,
        one_sink(tmp_path, api) as cluster,
        cluster.start("--edge") as edge,
        cluster.start("--worker") as first,
    ):
        maker = Maker("p", random.Random(3), ill=0.0)
        given = maker.many(20, pad=0)
        assert (await post(edge.ingest_port, given)).status == 202
        await until(lambda: len(api.taken) == 20)
        assert await cluster.command("spool", "park", "one") == (0, "one is parked\n", "")
        said = await first.said("parked, its events wait in the spool")
        assert "until `ingestd spool resume one --config FILE`" in said["message"]
        given += (more := maker.many(20, pad=0))
        assert (await post(edge.ingest_port, more)).status == 202
        async with cluster.start("--worker") as second:  # it takes shares, and must not send
            await until(partial(owns_some, second))
            await first.stop()
            assert len(api.taken) == 20
            assert await cluster.command("spool", "park", "one") == (0, "one was parked before\n", "")
            assert "one: parked" in (await cluster.command("spool", "stat"))[1]
            assert (await cluster.command("spool", "resume", "one"))[1] == "one is resumed\n"
            assert (await cluster.command("spool", "resume", "one"))[1] == "one was not parked\n"
            await until(lambda: len(api.taken) == 40)
            assert sorted(api.taken) == sorted(given)
            await settled(cluster)
            await second.stop()


async def test_who_parks_a_sink_whose_only_worker_is_dead_is_told_and_waits_for_nobody(
    tmp_path: Path,
) -> None:
    async with StrictApi() as api, one_sink(tmp_path, api) as cluster:
        async with cluster.start("--worker") as worker:
            await until(partial(owns_some, worker))
            await worker.kill()
        words = (
            "no worker of one is there: the next one reads that it is parked before it sends; one that stands"
            " still may send what it had begun\n"
        )
        assert await cluster.command("spool", "park", "one") == (0, "one is parked\n", words)
        assert await cluster.command("spool", "park", "one") == (0, "one was parked before\n", words)
        assert "one: parked for" in (await cluster.command("spool", "stat"))[1]
        shares = (await cluster.json("workers"))["shares"]
        assert {share["owner"] for share in shares} <= {None}


async def test_a_worker_that_does_not_know_of_parked_sinks_is_named(tmp_path: Path) -> None:
    """One of an older version says nothing of them; one with requests out says so."""
    async with (
        StrictApi() as api,
        one_sink(tmp_path, api) as cluster,
        stream_client(cluster.nats.url) as client,
    ):
        settings = load(str(cluster.config), {})
        told, stop = {"older": None, "slow": ParkedHere(1_000, 2), "edge": None}, asyncio.Event()

        async def speak() -> None:
            while not stop.is_set():
                for name, out in told.items():
                    kind = "edge" if name == "edge" else "worker"
                    parked = {"one": out} if out else {}
                    member = Member(name, kind, pid=7, sinks=["one"], parked=parked)
                    await client.publish("ingestd.t.members", msgspec.json.encode(member))
                await asyncio.sleep(0.1)  # a beat

        speaking = asyncio.create_task(speak())
        done = await to_thread.run_sync(partial(change, settings, "one", on=True, wait_s=patience(2)))
        assert {late.member.name: late.out for late in done.late} == {"older": None, "slow": 2}
        told["older"], told["slow"] = ParkedHere(1_000, 0), ParkedHere(1_000, 0)
        done = await to_thread.run_sync(partial(change, settings, "one", on=True, wait_s=patience(60)))
        assert (done.changed, done.late) == (False, [])
        stop.set()
        await speaking


async def owns_some(worker: Serving) -> bool:
    return bool((await worker.status()).get("shares"))


@pytest.mark.slow(
    "tests/process/cluster/test_parked_sinks.py::test_a_parked_sink_stays_so_though_everything_dies_and_begins_again",
    "tests/process/cluster/test_parked_sinks.py::test_workers_of_a_spool_on_other_machines_obey_too",
)
async def test_what_was_promised_is_kept_while_sinks_are_parked_and_everything_is_killed(
    tmp_path: Path,
) -> None:
    verdict, done = await play(tmp_path, 21, 8.0, park=True, pause_s=0.3)
    print(verdict, dict(done))
    assert verdict.good, verdict
    assert done["park sink"]


class OneIsShut(StrictApi):
    """``shut``: the first sink is refused, whatever it sends."""

    shut = True

    async def _answer(self, request: Request) -> Action:
        if self.shut and request.path.startswith("/one/"):
            return Reply(403)
        return await super()._answer(request)


async def test_what_waits_for_a_parked_sink_takes_no_room_from_the_others(tmp_path: Path) -> None:
    async with OneIsShut() as api:
        with nats_server(tmp_path / "nats") as nats:
            sizes = '1MiB"\nmax_parked = "2MiB'
            cluster = Cluster(tmp_path, nats, api.url, {"one": "", "two": ""}, max_bytes=sizes)
            await cluster.init()
            async with cluster.start() as service:
                maker, given = Maker("p", random.Random(3), ill=0.0), list[bytes]()

                async def fill() -> None:
                    """Until producers are told to wait."""
                    while True:
                        events = maker.many(30, pad=3000)
                        answer = await post(service.ingest_port, events)
                        if answer.status == 503:
                            assert b"full" in answer.body
                            break
                        assert answer.status == 202
                        given.extend(events)

                async def held() -> tuple[int, int]:
                    async with stream_client(nats.url) as client:
                        found = await client.jetstream().stream_info("t-events")
                    return found.state.bytes, found.config.max_bytes or 0

                await fill()
                assert 0.8 * 2**20 < (await held())[0] <= 2**20 == (await held())[1]
                assert await cluster.command("spool", "park", "one") == (0, "one is parked\n", "")
                before = len(given)
                await fill()
                assert 2.8 * 2**20 < (await held())[0] <= 3 * 2**20 == (await held())[1]
                assert len(given) > 2 * before
                assert (await cluster.command("spool", "check"))[0] == 0
                assert (await cluster.command("spool", "init"))[0] == 0  # as a supervisor does when it begins
                assert (await held())[1] == 3 * 2**20
                stat = await cluster.json("spool", "stat")
                await until(partial(all_of, cluster, "two", len(given)))  # nothing keeps it from the others
                assert stat["parked"].keys() == {"one"}
                api.shut = False
                assert await cluster.command("spool", "resume", "one") == (0, "one is resumed\n", "")
                assert (await held())[1] == 2**20  # nothing of what is in it is lost
                await until(partial(all_of, cluster, "one", len(given)))
                # What was refused with 503 may be in part there: its producer would send it again.
                assert {*given} <= {*api.taken}
                await until(partial(is_taken, service, maker))
                await service.stop()


async def is_taken(service: Serving, maker: Maker) -> bool:
    return (await post(service.ingest_port, maker.many(1, pad=0))).status == 202


async def all_of(cluster: Cluster, sink: str, least: int) -> bool:
    sinks = {one["name"]: one for one in (await cluster.json("spool", "stat"))["sinks"]}
    return bool(sinks[sink]["delivered"] >= least and not sinks[sink]["in_flight"])
