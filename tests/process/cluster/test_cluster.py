"""Edges and workers of a spool on NATS, as processes, with a real server: what each promise is held by."""

import asyncio
import json
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats.js.errors
import pytest

from ingestd.app.cluster.judgement import open_connection
from ingestd.app.cluster.spool import stat_of
from ingestd.config import load
from tests.event_api import INVALID, EventApi, events, events_of, key
from tests.machine import patience, patience_of_test
from tests.nats_server import NatsServer, nats_server
from tests.process.cli.run_support import Serving, post, told
from tests.process.cluster import letter_rounds, rate_rounds
from tests.process.cluster.rounds import play
from tests.process.cluster.support import Cluster, age_letters, ask, dead_letters, publish, stream_client
from tests.receiver import Action, Receiver, Reply, Request

_MOST_PAUSE_S = 0.25
_PAUSE_S = 0.3
"""The most between two requests of a producer: some are under way whenever somebody is killed."""
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(patience_of_test(180))]


class StrictApi(Receiver):
    """Takes batches once a key; ``gate`` closed: answers nothing. ``refuse``: events with these bytes.
    ``busy``: takes nothing. ``lies``: takes what comes, and says that it does not."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.bodies: dict[str, set[bytes]] = defaultdict(set)
        self.taken: list[bytes] = []
        self.came: list[tuple[float, str]] = []
        self.refuse = b"nothing"
        self.lies = False
        self.busy = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def _answer(self, request: Request) -> Action:
        name = key(request)
        if self.busy:
            return Reply(500)  # and not 503: that takes from the requests that may be out at once
        self.came.append((time.monotonic(), name))
        is_new = name not in self.bodies
        self.bodies[name].add(request.body)
        if is_new and self.refuse not in request.body:
            self.taken += events_of(request)
        await self.gate.wait()
        if self.lies:
            return Reply(503)
        return Reply(400 if self.refuse in request.body else 200)


@asynccontextmanager
async def one_sink(directory: Path, api: Receiver, lines: str = "", **more: Any) -> AsyncIterator[Cluster]:
    with nats_server(directory / "nats") as nats:
        cluster = Cluster(directory, nats, api.url, {"one": lines}, **{"partitions": 2} | more)
        await cluster.init()
        yield cluster


async def until(
    condition: Callable[[], bool | Awaitable[bool]],
    *,
    timeout_s: float = 60.0,
    state: Callable[[], object] = lambda: "",
) -> None:
    """``state``: what is told with a condition that never came true. What is asked is often a process: it is
    asked less and less."""
    end, pause_s = time.monotonic() + patience(timeout_s), 0.02
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        assert time.monotonic() < end, f"never so: {getattr(condition, '__qualname__', condition)} {state()}"
        await asyncio.sleep(pause_s)
        pause_s = min(1.3 * pause_s, _MOST_PAUSE_S)


async def test_what_was_promised_is_kept_while_everything_is_killed(tmp_path: Path) -> None:
    """Workers, edges and the broker are killed and stopped; an API answers 503 to what it took."""
    verdict, done = await play(tmp_path, 11, 6.0, pause_s=_PAUSE_S)
    print(verdict, dict(done))
    assert verdict.good, verdict
    assert verdict.acknowledged > 0
    assert verdict.kills > 0


async def test_the_next_owner_repeats_the_batches_of_a_killed_worker_within_seconds(tmp_path: Path) -> None:
    async with StrictApi() as api, one_sink(tmp_path, api) as cluster, cluster.start("--edge") as edge:
        async with cluster.start("--worker") as first:
            await first.said("connected")
            api.gate.clear()
            assert (await post(edge.ingest_port, events(200))).status == 202
            await until(lambda: len(api.taken) == 200)
            async with cluster.start("--worker") as second:
                await until(knows_others(second))
                out = {name for _, name in api.came}
                died, count = time.monotonic(), len(api.came)
                await first.kill()
                # Long before the server would give them to another, in ten minutes; how soon an owner is
                # missed is tested on a clock: tests/integration/cluster/test_membership.py
                await until(lambda: len({name for _, name in api.came[count:]}) == len(out), timeout_s=30.0)
                print(f"repeated after {api.came[-1][0] - died:.2f} s")
                api.gate.set()
                sink = await settled(cluster)
                assert (sink["accepted"], sink["delivered"]) == (200, 200)
                assert {name for _, name in api.came} == out
                assert all(len(bodies) == 1 for bodies in api.bodies.values())
                assert len(api.taken) == 200
                await second.stop()
        await edge.stop()


async def settled_with(cluster: Cluster, **counts: int) -> None:
    found: dict[str, Any] = {}

    async def is_so() -> bool:
        found.update(await settled(cluster))
        return all(found[name] == count for name, count in counts.items())

    await until(is_so, state=lambda: (counts, found))


async def letters_left(cluster: Cluster, count: int) -> list[dict[str, Any]]:
    """Once there are so many: what became of one is in the log before it goes from the stream of letters."""
    found: list[dict[str, Any]] = []

    async def so_many() -> bool:
        found[:] = (await cluster.json("dlq", "list"))["letters"]
        return len(found) == count

    await until(so_many, state=lambda: (count, found))
    return found


def knows_others(worker: Serving) -> Callable[[], Awaitable[bool]]:
    async def knows() -> bool:
        return bool((await worker.status())["worker"]["others"])

    return knows


async def settled(cluster: Cluster) -> dict[str, Any]:
    """Of the one sink, when nothing is in flight any more, as the command says. To wait for that, the spool
    is asked from here: each command costs a process."""
    settings, stat = load(str(cluster.config), {}), dict[str, Any]()
    async with open_connection(settings) as connection:

        async def is_so() -> bool:
            stat.update(await stat_of(connection, settings))
            return bool(stat["sinks"]) and stat["sinks"][0]["in_flight"] == 0

        await until(is_so, state=lambda: stat)
    return dict((await cluster.json("spool", "stat"))["sinks"][0])


async def test_a_copy_is_known_at_any_edge_and_after_a_take_over_and_a_failed_event_may_come_again(
    tmp_path: Path,
) -> None:
    given = events(40)
    more = "[ingest]\nkeep_rejected = true"
    async with StrictApi() as api, one_sink(tmp_path, api, more=more) as cluster:
        async with cluster.start("--edge") as edge, cluster.start("--worker") as worker:
            api.refuse = b"i-000007"
            answer = await post(edge.ingest_port, [*given, given[3], INVALID])
            assert (told(answer)["accepted"], told(answer)["duplicates"]) == (40, 1)
            assert len(told(answer)["rejected"]) == 1
            await until(lambda: len(api.taken) == 39)
            await settled(cluster)
            await worker.kill()
        async with cluster.start() as both:
            api.refuse = b"nothing"
            answer = await post(both.ingest_port, given)
            assert told(answer)["accepted"] == 40  # an edge knows no copies of earlier requests
            sink = await settled(cluster)
            assert sink["accepted"] == 80
            assert (sink["delivered"], sink["duplicate"], sink["dead_lettered"]) == (40, 39, 1)
            assert sorted(api.taken) == sorted(given)
            found = await cluster.json("where", given[3].decode())
            assert found["words"] == "It is delivered: one."
            (end,) = [step for step in found["steps"] if step["what"] == "delivered"]
            assert end["partition"] in ("0", "1")
            assert end["sequence"] in (1, 2)
            found = await cluster.json("where", given[7].decode())
            assert found["words"] == "It is a dead letter (one): refused."
            letters = await dead_letters(cluster.nats.url, "t")
            assert sorted((one["sink"], one["reason"]) for one in letters) == [
                ("", "invalid"),
                ("one", "refused"),
            ]
            metric = await both.metric(
                "ingestd_share_events_total", sink="one", partition="0", outcome="delivered"
            )
            status = await both.status()
            delivered = sum(one["ledger"]["delivered"] for one in status["shares"])
            assert delivered == 40 >= metric
            await both.stop()


async def test_chunks_that_went_to_nobody_are_asked_for_again(tmp_path: Path) -> None:
    """As to a worker that took itself for the owner for a moment: the server would wait for ten minutes."""
    async with (
        StrictApi() as api,
        one_sink(tmp_path, api, partitions=1) as cluster,
        cluster.start("--edge") as edge,
        cluster.start("--worker") as worker,
    ):
        assert (await post(edge.ingest_port, events(10))).status == 202
        await until(lambda: len(api.taken) == 10)
        worker.send(signal.SIGSTOP)
        await ask(cluster.nats.url, "CONSUMER.UNPIN.t-events.one-0", b'{"group":"owner"}')
        async with stream_client(cluster.nats.url) as client:
            inbox = await client.subscribe("stranger")
            pull = b'{"batch":5,"expires":60000000000,"group":"owner"}'
            await client.publish("$JS.API.CONSUMER.MSG.NEXT.t-events.one-0", pull, reply="stranger")
            assert (await post(edge.ingest_port, events(10, first=10))).status == 202
            while not (await inbox.next_msg(patience(20))).reply:
                pass  # the worker's own request may have been before
        await ask(cluster.nats.url, "CONSUMER.UNPIN.t-events.one-0", b'{"group":"owner"}')
        worker.send(signal.SIGCONT)
        line = await worker.said("let go of one/0: ")
        why = line["message"].removeprefix("let go of one/0: ")
        assert why in ("a delivery is missing", "deliveries are missing", "the share is another worker's")
        await until(lambda: len(api.taken) == 20)
        sink = await settled(cluster)
        assert (sink["accepted"], sink["delivered"]) == (20, 20)
        await worker.stop()
        await edge.stop()


async def test_letters_are_looked_at_corrected_sent_again_and_purged(tmp_path: Path) -> None:
    delivery = 'give_up_after = "1s"\nbackoff_base = "50ms"\nbackoff_cap = "100ms"\ncircuit_threshold = 1000'
    more = "[ingest]\nkeep_rejected = true"
    async with (
        StrictApi() as api,
        one_sink(tmp_path, api, more=more, delivery=delivery, partitions=1) as cluster,
        cluster.start() as both,
    ):
        api.refuse = b"i-000007"
        assert (await post(both.ingest_port, [*events(20), INVALID])).status == 202
        assert (await settled(cluster))["dead_lettered"] == 1
        api.lies = True  # it takes what comes, and says 503
        assert (await post(both.ingest_port, events(10, first=100))).status == 202
        await until(lambda: len(api.taken) == 29)
        assert (await settled(cluster))["dead_lettered"] == 11
        groups = (await cluster.json("dlq", "list", "--group"))["groups"]
        counts = sorted((one["sink"] or "-", one["count"]) for one in groups)
        assert counts == [("-", 1), ("one", 1), ("one", 10)]
        (refused,) = (await cluster.json("dlq", "list", "--reason", "refused"))["letters"]
        shown = await cluster.json("dlq", "show", str(refused["id"]))
        assert (shown["event_id"], shown["sink"]) == ("i-000007", "one")
        assert (shown["offset"], shown["sequence"]) == (None, 1)
        api.lies, count = False, len(api.came)
        again = await cluster.json("dlq", "retry", "--reason", "gave_up")
        assert (again["marked"], again["spool"], again["risky"], again["invalid"]) == (10, "t", 0, {})
        (tmp_path / "corrected").write_bytes(shown["payload"].replace("i-000007", "i-000777").encode())
        code, out, _ = await cluster.command(
            "dlq", "retry", str(refused["id"]), "--edit", str(tmp_path / "corrected")
        )
        assert (code, out) == (0, "1 letter marked; the workers of the spool t send them\n")
        await until(lambda: len(api.taken) == 30)
        await settled_with(cluster, retried=11)
        sink = await settled(cluster)
        assert (sink["accepted"], sink["delivered"], sink["dead_lettered"]) == (30, 19, 11)
        (invalid,) = await letters_left(cluster, 1)
        assert (invalid["reason"], invalid["sink"]) == ("invalid", None)
        assert (invalid["offset"], invalid["sequence"]) == (None, None)  # an edge refused it
        names = [name for _, name in api.came[count:]]
        assert names[0] in {name for _, name in api.came[:count]}, "the request that may have been taken"
        assert all(len(bodies) == 1 for bodies in api.bodies.values())
        await publish(cluster.nats.url, "ingestd.t.e.0", b"somebody else's")
        await settled_with(cluster, rejected=1)
        (strange,) = (await cluster.json("dlq", "list", "--reason", "unparsable"))["letters"]
        assert (strange["payload"], strange["sink"]) == ("somebody else's", "one")
        code, _, _ = await cluster.command("dlq", "purge", "--all", "--yes")
        assert code == 0
        assert (await cluster.json("dlq", "list"))["letters"] == []
        assert (await cluster.command("dlq", "purge", str(refused["id"]), "--yes"))[0] == 2
        await both.stop()


async def test_letters_are_sent_again_by_themselves_once_although_their_worker_is_killed(
    tmp_path: Path,
) -> None:
    delivery = 'give_up_after = "1s"\nbackoff_base = "50ms"\nbackoff_cap = "100ms"\ncircuit_threshold = 1000'
    more = '[letters]\npoll_interval = "1h"'  # else it might see them half aged
    async with StrictApi() as api, one_sink(tmp_path, api, delivery=delivery, more=more) as cluster:
        async with cluster.start() as first:
            api.busy = True
            assert (await post(first.ingest_port, events(60))).status == 202
            assert (await settled(cluster))["dead_lettered"] == 60
            api.busy = False
            told = await cluster.json("dlq", "park", "--event-id", "i-000007")
            assert told["selected"] == 1
            parked = int(told["parked"])  # its request may have been taken, so all of it
            assert 1 < parked < 60
            api.gate.clear()
            first.send(signal.SIGSTOP)  # else it might lease them one by one while they age
            await age_letters(cluster.nats.url, "t", 120.0)
            first.send(signal.SIGCONT)
            await until(lambda: len(api.taken) == 60 - parked)
            out = {name for _, name in api.came}
            await first.kill()
        async with cluster.start() as second:
            await until(lambda: len(api.came) >= 2 * len(out))
            # Its producer sends one of them again: a copy of what is on its way.
            event = api.taken[0]
            assert (await post(second.ingest_port, [event])).status == 202
            api.gate.set()
            sink = await settled(cluster)
            assert (sink["accepted"], sink["dead_lettered"], sink["duplicate"]) == (61, 60, 1)
            assert {name for _, name in api.came} == out
            assert all(len(bodies) == 1 for bodies in api.bodies.values())
            await settled_with(cluster, retried=60 - parked)
            left = await letters_left(cluster, parked)
            assert [one["next_due"] for one in left] == [None] * parked
            await second.stop()
    assert len(api.taken) == 60 - parked


async def test_a_full_stream_and_a_broker_that_is_away_are_told_with_503(tmp_path: Path) -> None:
    async with (
        EventApi() as api,
        one_sink(tmp_path, api, max_bytes="1MiB") as cluster,
        cluster.start("--edge") as edge,
    ):
        for first in range(0, 10_000, 1_000):
            answer = await post(edge.ingest_port, events(1_000, first=first))
            if answer.status != 202:
                break
        assert (answer.status, answer.headers["retry-after"]) == (503, "30")
        assert b"full" in answer.body
        (reason,) = await edge.reasons()
        assert reason.startswith("spool: holds ")
        line = await edge.said("producers are told to wait")
        assert (line["condition"], line["state"]) == ("spool", "not ready")
        cluster.nats.kill()
        await until(edge_is_away(edge))
        answer = await post(edge.ingest_port, events(1))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        cluster.nats.start()
        await until(edge_is_back(edge))
        # Made again behind its back: with its old secret it would know no copies.
        await ask(cluster.nats.url, "STREAM.DELETE.KV_t-state")
        await cluster.init()
        cluster.nats.kill()
        cluster.nats.start()
        await edge.said("is another one now: it was made again, with another secret")
        assert (await edge.finish()).code == 2


def edge_is_away(edge: Serving) -> Callable[[], Awaitable[bool]]:
    async def is_away() -> bool:
        return any("NATS" in reason for reason in await edge.reasons())

    return is_away


def edge_is_back(edge: Serving) -> Callable[[], Awaitable[bool]]:
    async def is_back() -> bool:
        return await edge.metric("ingestd_nats_connected") == 1

    return is_back


async def test_shares_are_spread_and_one_worker_owns_all_of_a_sink_with_a_rate(tmp_path: Path) -> None:
    with nats_server(tmp_path / "nats") as nats:
        async with EventApi() as api:
            sinks = {"free": "", "slow": "requests_per_minute = 600"}
            cluster = Cluster(tmp_path, nats, api.url, sinks, partitions=4)
            await cluster.init()
            async with cluster.start("--worker") as first, cluster.start("--worker") as second:
                await until(lambda: _spread(cluster))
                found = await cluster.json("workers")
                assert [one["partition"] for one in found["shares"]] == ["0", "1", "2", "3", "all"]
                assert len(found["members"]) == 2
                await second.stop()
                await until(lambda: _owners(cluster, 1))
                assert await first.metric("ingestd_shares_owned") == 5
                await first.stop()


class PacedApi(Receiver):
    """Notes when requests came and how many were out; tells one of them to come again later."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.came: list[float] = []
        self.out = self.most_out = 0
        self.pause_s = 0
        self.paused_at = 0.0

    async def _answer(self, request: Request) -> Action:
        now = time.monotonic()
        self.came.append(now)
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        await asyncio.sleep(0.05)
        self.out -= 1
        if self.pause_s:
            pause_s, self.pause_s, self.paused_at = self.pause_s, 0, time.monotonic()
            return Reply(429, {"Retry-After": str(pause_s)})
        return Reply(200)


async def test_workers_share_the_rate_of_an_api_and_its_retry_after(tmp_path: Path) -> None:
    limits = "requests_per_minute = 1200\nmax_in_flight = 3\nmax_events = 1\nshared_rate = true"
    async with (
        PacedApi() as api,
        one_sink(tmp_path, api, limits, partitions=4) as cluster,
        cluster.start("--worker") as first,
        cluster.start() as second,
    ):
        await until(knows_others(first))
        await until(lambda: _owners(cluster, 2))
        assert (await post(second.ingest_port, events(2_000))).status == 202
        await until(lambda: len(api.came) > 60)
        await until(lambda: _all_sent(first, second))
        api.pause_s, count = 3, len(api.came)
        await until(lambda: api.paused_at > 0)
        await until(lambda: api.came[-1] > api.paused_at + 2.9)
        early = [at - api.paused_at for at in api.came[count:] if 0.5 < at - api.paused_at < 2.9]
        assert early == []
        await first.kill()  # what it had leased is free again soon
        count = len(api.came)
        await until(lambda: len(api.came) > count + 60)
        assert api.most_out <= 3
        worst = max(sum(at <= one < at + 5.0 for one in api.came) for at in api.came)
        print(f"most in any 5 s: {worst} of 100, most at a time {api.most_out}")
        assert worst <= 100 + 10 + 40  # what had gathered, and leases of up to 2 s
        await second.kill()


@pytest.mark.slow(
    "tests/process/cluster/test_cluster.py::test_workers_share_the_rate_of_an_api_and_its_retry_after",
    "tests/unit/cluster/test_shared_rate.py::test_in_no_minute_do_workers_send_more_than_the_limit_and_each_has_a_part",
    "tests/integration/cluster/test_shared_rate.py::test_a_request_that_had_to_wait_for_its_log_goes_only_while_its_lease_is_there",
)
async def test_a_shared_rate_holds_while_workers_and_the_broker_are_killed_and_stopped(
    tmp_path: Path,
) -> None:
    verdict, done = await rate_rounds.play(tmp_path, 3, 9.0, requests=60)
    print(verdict, dict(done))
    assert verdict.good, verdict
    assert done["requests"] > 60


@pytest.mark.slow(
    "tests/process/cluster/test_cluster.py::test_letters_are_sent_again_by_themselves_once_although_their_worker_is_killed",
    "tests/process/cluster/test_letters.py::test_a_letter_that_is_gone_stays_gone_though_the_server_is_killed",
    "tests/process/cluster/test_letters.py::test_a_person_deletes_a_letter_of_a_request_that_is_out_and_the_others_wait",
    "tests/process/cluster/test_letters.py::test_a_letter_that_is_delivered_is_deleted_though_a_person_marks_it_before_that_is_stored",
)
async def test_letters_have_one_end_though_persons_change_them_and_everything_is_killed(
    tmp_path: Path,
) -> None:
    verdict, done = await letter_rounds.play(tmp_path, 21, 9.0)
    print(verdict, dict(done))
    assert verdict.good, verdict
    assert done["letters"] > 0


async def _all_sent(*workers: Serving) -> bool:
    """Each of them has its part of what the API allows, though not at the same moment."""
    lanes = [(await one.status())["lanes"][0]["ledger"] for one in workers]
    return min(one["requests"] for one in lanes) > 5


async def _spread(cluster: Cluster) -> bool:
    return await _owners(cluster, 2)


async def _owners(cluster: Cluster, count: int) -> bool:
    shares = (await cluster.json("workers"))["shares"]
    return None not in (owners := {one["owner"] for one in shares}) and len(owners) == count


async def test_what_differs_from_the_spool_is_refused_in_words(tmp_path: Path, nats_url: NatsServer) -> None:
    def config(name: str, *lines: str, partitions: int = 2) -> Cluster:
        (tmp_path / name).mkdir()
        return Cluster(
            tmp_path / name,
            nats_url,
            "http://127.0.0.1:9",
            {"one": lines[0] if lines else ""},
            name="words",
            partitions=partitions,
            more="\n".join(lines[1:]),
        )

    first = config("first")
    code, _, err = await first.command("run", "--worker", "--admin-listen", "127.0.0.1:0")
    assert code == 2
    assert "`ingestd spool init --config FILE` makes one" in err
    code, out, _ = await first.command("spool", "init")
    assert (code, out.splitlines()[0]) == (0, "spool words: made")
    assert "sync_interval: always" in out
    assert (await first.command("spool", "init"))[1].startswith("spool words: it is there")
    for found, words in (
        (
            config("partitions", partitions=3),
            "spool.partitions is 3 here and 2 there. All edges and workers of a spool need the same;"
            " with 2 in FILE `ingestd spool resize 3 --config FILE` changes it while events come",
        ),
        (config("key", "", '[schema]\ndedup_key = "eventId"'), "schema.dedup_key is ['eventId'] here"),
        (config("order", 'order_by = "eventType"'), "sinks.one.order_by is not delivery.order_by"),
        (config("bound", 'max_backlog = "1MiB"'), "sinks.one.max_backlog is not there"),
    ):
        code, _, err = await found.command("run", "--worker", "--admin-listen", "127.0.0.1:0")
        assert (code, words in err) == (2, True), err
    async with stream_client(nats_url.url) as client:
        entry = "$KV.words-state.installation"
        now = json.loads(
            (await client.jetstream(timeout=patience(5)).get_last_msg("KV_words-state", entry)).data or b""
        )
        await publish(nats_url.url, entry, json.dumps(now | {"format": 2}).encode())
        code, _, err = await first.command("run", "--worker", "--admin-listen", "127.0.0.1:0")
        assert (code, "the version of ingestd is 1 here and 2 there" in err) == (2, True), err
        await publish(nats_url.url, entry, json.dumps(now).encode())
    _, out, _ = await first.command("check", "--online")
    assert "ok    spool            words at nats://" in out
    assert "warn  spool            one server alone keeps the streams" in out
    taken = f"127.0.0.1:{nats_url.port}"
    code, _, err = await first.command("run", "--edge", "--listen", taken, "--admin-listen", "127.0.0.1:0")
    assert (code, f"cannot listen on {taken}: something else listens there" in err) == (2, True), err
    assert "Traceback" not in err, err  # of a connection to NATS that was left open
    _, out, _ = await found.command("check")
    assert "FAIL  spool            sinks.one.max_backlog is not there with spool.kind = 'nats'" in out


@pytest.fixture
def nats_url(shared_nats: NatsServer) -> NatsServer:
    return shared_nats


async def test_a_stream_that_was_made_again_is_not_taken_for_the_one_that_was_read(tmp_path: Path) -> None:
    """As one that lost its end in a power cut: its numbers stand for other chunks then."""
    async with StrictApi() as api, one_sink(tmp_path, api, partitions=1) as cluster:
        async with cluster.start() as both:
            for first in range(0, 60, 10):
                assert (await post(both.ingest_port, events(10, first=first))).status == 202
            assert (await settled(cluster))["delivered"] == 60
            await both.stop()
        await ask(cluster.nats.url, "STREAM.DELETE.t-events")
        await cluster.init()
        async with cluster.start() as both:
            assert (await post(both.ingest_port, events(10, first=100))).status == 202
            await both.said("was made again")
            await until(lambda: len(api.taken) == 70)
            sink = await settled(cluster)
            assert (sink["accepted"], sink["delivered"]) == (70, 70)
            await both.stop()


async def test_partitions_are_changed_while_events_come_and_a_copy_is_known_still(tmp_path: Path) -> None:
    async with StrictApi() as api, one_sink(tmp_path, api, partitions=2) as cluster, cluster.start() as both:
        assert (await post(both.ingest_port, events(40))).status == 202
        await until(lambda: len(api.taken) == 40)
        code, out, err = await cluster.command("spool", "resize", "5")
        assert (code, out.split(":")[0]) == (0, "2 partitions are 5 now"), err
        assert "no worker is there" not in out
        assert (await post(both.ingest_port, [*events(40), *events(100, first=100)])).status == 202
        await until(lambda: len(api.taken) == 140)
        sink = await settled(cluster)
        assert (sink["accepted"], sink["delivered"], sink["duplicate"]) == (180, 140, 40)
        shares = {one["partition"] for one in (await both.status())["shares"]}
        assert shares == {"2", "3", "4", "5", "6"}
        code, _, err = await cluster.command("spool", "resize", "5")
        assert (code, "has 5 partitions" in err) == (2, True)
        assert (await cluster.command("spool", "init"))[0] == 0  # it leaves the older ones closed
        with pytest.raises(nats.js.errors.NoStreamResponseError):
            await publish(cluster.nats.url, "ingestd.t.e.0", b"late")
        await both.stop()


@pytest.mark.slow(
    "tests/process/cluster/test_cluster.py::test_partitions_are_changed_while_events_come_and_a_copy_is_known_still",
    "tests/process/cluster/test_resize.py::test_workers_finish_a_change_that_was_begun_and_old_events_go_first",
    "tests/process/cluster/test_resize.py::test_a_sink_with_one_owner_reads_old_and_new_partitions_in_the_order_of_the_stream",
)
async def test_partitions_are_changed_while_everything_is_killed(tmp_path: Path) -> None:
    """Again and again, and `resize` is killed too; order by key is kept, and nothing is lost or doubled."""
    verdict, done = await play(tmp_path, 5, 9.0, resize=True, pause_s=_PAUSE_S)
    print(verdict, dict(done))
    assert verdict.good, verdict
    assert done["resize partitions"] > 0


async def test_what_was_accepted_since_a_sink_came_is_kept_for_it(tmp_path: Path) -> None:
    """Though the owners of the other sink's shares have an older configuration, and are done with it."""
    with nats_server(tmp_path / "nats") as nats:
        async with StrictApi() as api:
            (tmp_path / "new").mkdir()
            old = Cluster(tmp_path, nats, api.url, {"one": ""}, partitions=1)
            new = Cluster(tmp_path / "new", nats, api.url, {"two": ""}, partitions=1)
            await old.init()
            async with old.start() as both:
                async with new.start("--worker") as other:
                    await other.said("connected")
                    await other.kill()
                assert (await post(both.ingest_port, events(50))).status == 202
                await until(lambda: len(api.taken) == 50)
                end = time.monotonic() + 3.0  # longer than an owner waits until it deletes what is done
                while time.monotonic() < end:
                    assert (await old.json("spool", "stat"))["chunks"] > 0
                    await asyncio.sleep(0.2)
                async with new.start("--worker") as other:
                    await until(lambda: len(api.taken) == 100)
                    await other.stop()
                assert sorted(api.taken) == sorted([*events(50), *events(50)])
                await both.stop()
