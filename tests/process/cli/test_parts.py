"""``replay --workers``: several processes, each with its part of the events, are as good as one."""

import asyncio
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestd.store.lock import DirectoryLock
from tests.effort import seeds
from tests.event_api import INVALID, EventApi, assert_balanced, event, events, once_each, write
from tests.machine import patience
from tests.process.cli.support import Finished, Place, Running, until
from tests.process.cli.test_order import LINES, TakingApi, assert_in_order
from tests.receiver import Hang, Receiver, Reply, Request

pytestmark = pytest.mark.anyio


def parts(place: Place, count: int = 2) -> list[Path]:
    return [place.state / f"part-{number}of{count}" for number in range(1, count + 1)]


def children(running: Running) -> list[int]:
    pid = running.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def slow(request: Request) -> Reply:
    await asyncio.sleep(0.02)
    return Reply()


def make_sources(place: Place) -> list[Path]:
    """Files with copies within and across them, lines that are refused and several events in one line."""
    return [
        write(place / "a.ndjson", [*events(1_500), *events(300), INVALID, b"nonsense", b'{"a":1}{"a":2}']),
        write(place / "b.ndjson.gz", [*events(1_500, first=1_000), INVALID, b"nonsense"]),
        write(place / "c.ndjson", [event(2_600), *events(200, first=2_400)]),
    ]


@pytest.mark.parametrize("count", [2, 3])
async def test_the_events_of_several_files_are_delivered_once_and_their_ledger_is_that_of_one_process(
    place: Place, count: int
) -> None:
    sources = make_sources(place)
    async with EventApi() as api:
        alone = await place.run(
            *("replay", *sources, "--api", api.url, "--no-auth", "--json", "--quiet"),
            *("--state-dir", place / "alone"),
        )
        before = len(api.requests)
        words = place.replay(api, *sources, "--workers", count)
        done = await place.run(*words)
        again = await place.run(*words, "--json", "--quiet")
        delivered = [one for found in once_each(api.batches[before:]).values() for one in found]
    assert sorted(delivered) == sorted({*events(2_500), *events(200, first=2_400), event(2_600)})
    counts = ("accepted", "delivered", "duplicate", "rejected", "dead_lettered", "in_flight")
    one, all_of = alone.json, again.json
    assert (done.code, again.code, alone.code) == (3, 0, 3)
    assert [all_of[name] for name in counts] == [0] * 6
    assert f"accepted      {one['accepted']:,}" in done.out
    for name in counts[1:4]:
        assert f"{name:14}{one[name]:>5,}" in done.out
    shown = [line for line in done.out.splitlines() if line.startswith("see the dead letters")]
    where = {
        f"see the dead letters with: ingestd dlq list --state-dir {part}" for part in parts(place, count)
    }
    assert shown
    assert set(shown) <= where
    assert all((part / "state.db").exists() for part in parts(place, count))


async def test_the_report_of_all_adds_up_and_says_how_far_each_source_was_read(place: Place) -> None:
    sources = make_sources(place)
    async with EventApi() as api:
        await place.run(*place.replay(api, *sources, "--workers", 2))
    report = place.report
    assert_balanced(report)
    assert report["accepted"] == 1_804 + 1_502 + 201
    assert report["dead_letters_by_reason"] == {"invalid": 4, "unparsable": 2}
    assert [one["bytes_read"] for one in report["sources"]] == [one.stat().st_size for one in sources]
    assert report["sinks"]["ingest_api"]["delivered"] == report["delivered"] == 2_601
    assert (report["interrupted"], report["error"], report["exit_code"]) == (False, None, 3)
    assert report["requests"] == len(api.batches)


async def test_events_of_one_key_arrive_in_order_though_the_api_fails(place: Place) -> None:
    config = place / "ingestd.toml"
    config.write_text(
        '[delivery]\norder_by = "attributes.note"\nretry_ratio = 10\n'
        'backoff_base = "5ms"\nbackoff_cap = "50ms"\n'
    )
    source = write(place / "in.ndjson", LINES)
    taking = TakingApi()
    async with EventApi(taking) as api:
        words = place.replay(api, source, "--config", config, "--max-batch-events", 20, "--workers", 2)
        done = await place.run(*words)
    assert done.code == 0, done
    assert sorted(taking.taken) == sorted(LINES)
    assert_in_order(taking.taken)
    assert place.report["keys"][0]["events"] == len(LINES)
    assert all((part / "state.db").exists() for part in parts(place))


def report_of_interrupted(place: Place, done: Finished) -> dict[str, Any]:
    """All that was on its way has its end, and the command says what to do."""
    report = place.report
    assert done.code == 130
    assert "run the same command again" in done.out
    assert_balanced(report)
    assert (report["interrupted"], report["exit_code"], report["in_flight"]) == (True, 130, 0)
    return report


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_drains_all_and_the_next_run_goes_on(place: Place, number: signal.Signals) -> None:
    source = write(place / "in.ndjson", events(4_000, note="n" * 600))
    async with EventApi(slow) as api:
        words = place.replay(api, source, "--max-batch-events", 20, "--max-in-flight", 3, "--workers", 2)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.requests) >= 8)
            running.send(number)
            done = await running.finish()
        first = report_of_interrupted(place, done)
        assert 0 < first["delivered"] == len(api.events) < 4_000
        done = await place.run(*words)
    assert done.code == 0
    assert first["delivered"] + place.report["delivered"] == 4_000
    assert sorted(api.events) == events(4_000, note="n" * 600)


async def test_a_second_signal_ends_all_at_once_and_loses_nothing(place: Place) -> None:
    source = write(place / "in.ndjson", events(100))
    async with EventApi(lambda request: Hang()) as api:
        words = place.replay(api, source, "--max-batch-events", 10, "--workers", 2)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.requests) == 5)
            own = children(running)
            running.send(signal.SIGTERM)
            await asyncio.sleep(0.1)  # two signals of one kind that come together are one
            running.send(signal.SIGTERM)
            done = await running.finish()
        assert (done.code, len(own)) == (130, 2)
        await until(lambda: not any(map(is_alive, own)))
    async with EventApi() as api:
        done = await place.run(*place.replay(api, source, "--workers", 2))
        assert (done.code, sorted(api.events)) == (0, events(100))


@pytest.mark.parametrize("seed", seeds(3, 20))
async def test_whichever_process_is_killed_and_however_often_each_event_is_delivered_under_one_key(
    place: Place, seed: int
) -> None:
    """kill -9 of a child ends the others in order; of the parent, all at once."""
    rng = random.Random(seed)
    source = write(place / "in.ndjson", events(2_000, note="k" * 900))
    copies = write(place / "copies.ndjson.gz", events(400, first=1_000, note="k" * 900))
    reports: list[dict[str, Any]] = []
    async with EventApi(slow) as api:
        words = place.replay(api, source, copies, "--max-batch-events", 25, "--workers", 3)
        for _ in range(4):
            seen, enough = len(api.requests), rng.randrange(4, 14)
            async with place.start(*words) as running:
                over = asyncio.ensure_future(running.process.wait())
                busy = asyncio.ensure_future(api.until(lambda api: len(api.requests) >= seen + enough))  # noqa: B023
                await asyncio.wait([over, busy], return_when=asyncio.FIRST_COMPLETED)
                busy.cancel()
                if running.over:
                    break
                own = children(running)
                victim = rng.choice([running.process.pid, *own])
                os.kill(victim, signal.SIGKILL)
                done = await running.finish()
                await until(lambda: not any(map(is_alive, own)))  # noqa: B023
                if victim in own and done.code != 0:
                    assert done.code == 1
                    assert "has ended by SIGKILL: run the same command again" in done.err
                    assert_balanced(place.report)
        done = await place.run(*words)
        reports.append(place.report)
        assert done.code == 0
        delivered = [one for found in once_each(api.batches).values() for one in found]
    assert sorted(delivered) == events(2_000, note="k" * 900)
    assert_balanced(reports[-1])


async def test_what_is_not_delivered_is_a_dead_letter_of_its_part_and_is_retried_there(place: Place) -> None:
    source = write(place / "in.ndjson", events(60))
    async with EventApi(lambda request: Reply(400)) as api:
        done = await place.run(*place.replay(api, source, "--workers", 2))
        assert done.code == 3
        assert place.report["dead_lettered"] == 60
        for words in (["dlq", "list"], ["spool", "stat"], ["audit", "verify"]):
            everywhere = await place.run(*words, "--state-dir", place.state)
            assert everywhere.code == 2
            assert f"choose one with --state-dir ({', '.join(map(str, parts(place)))})" in everywhere.err
        assert (await place.run("audit", "verify", "--state-dir", parts(place)[0])).code == 0
        found = 0
        for part in parts(place):
            listed = await place.run("dlq", "export", "--state-dir", part)
            found += len(listed.out.splitlines())
        assert found == 60
    async with EventApi() as api:
        for part in parts(place):
            words = ("--api", api.url, "--no-auth", "--state-dir", part)
            assert (await place.run("dlq", "retry", "--all", *words)).code == 0
        assert sorted(api.events) == events(60)


async def test_more_rejected_events_than_are_allowed_by_all_together_end_all(place: Place) -> None:
    config = place / "c.toml"
    config.write_text("[source]\nmax_rejected = '40'\n")
    some = [event(number) if number % 100 else INVALID for number in range(30_000)]
    source = write(place / "in.ndjson", some)
    async with EventApi(slow) as api:
        words = place.replay(api, source, "--config", config, "--workers", 2, "--max-batch-events", 50)
        done = await place.run(*words, "--quiet")
    assert done.code == 3
    assert place.report["rejected"] > 40
    assert_balanced(place.report)


async def test_a_limit_of_requests_is_that_of_all_together(place: Place) -> None:
    config = place / "c.toml"
    config.write_text("[sinks.api]\ntype = 'ingest_api'\nmax_events = 1\nrequests_per_minute = 600\n")
    source = write(place / "in.ndjson", events(40))
    async with EventApi() as api:
        done = await place.run(*place.replay(api, source, "--config", config, "--workers", 2))
        times = [request.at for request in api.requests]
    assert (done.code, len(times)) == (0, 40)
    # 6 at once of each, then 4.9 a second of each; if each had all of it, it would be 1 s
    assert times[-1] - times[0] > 2.0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-"], "standard input can be read by one process only"),
        (["/dev/null"], "/dev/null can be read by one process only"),
        (["/nowhere.ndjson"], "cannot read /nowhere.ndjson: No such file"),
        (["{source}", "--workers", "6"], "delivery.max_in_flight = 5 is for all processes together"),
        (["{source}", "--audit-log", "a.jsonl"], "audit.file is not there with --workers"),
        (["{source}", "--schema", "nothing"], "nothing"),
        (["{source}", "--sandbox"], "--sandbox is one process"),
        (["{source}", "--config", "{lake}"], "sinks.files is a lake: that is not there with --workers"),
        (["{source}", "--config", "{orders}"], "sinks want their events in order by a and by b"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_before_anything_is_read(
    place: Place, words: Sequence[str], told: str
) -> None:
    hook = "[sinks.hook]\ntype = 'webhook'\nurl = 'http://127.0.0.1:9'\n"
    files = {
        "source": write(place / "in.ndjson", events(3)),
        "lake": place / "lake.toml",
        "orders": place / "orders.toml",
    }
    files["lake"].write_text(f"{hook}[sinks.files]\ntype = 'lake'\nurl = 'file://{place / 'files'}'\n")
    files["orders"].write_text(
        f"{hook}order_by = 'a'\n{hook.replace('hook]', 'other]')}\n[delivery]\norder_by = 'b'\n"
    )
    given = [word.format(**files) for word in words]
    api = [] if "--sandbox" in given else ["--api", "http://127.0.0.1:9", "--no-auth"]
    at = ["--state-dir", str(place.state), "--workers", "2"]
    done = place.call("replay", *at, *given, *api)
    assert done.code == 2, done
    assert told in done.said[-1]
    assert not place.state.exists()


async def test_a_state_directory_is_of_as_many_processes_as_began_with_it(place: Place) -> None:
    source = write(place / "in.ndjson", events(50))
    async with EventApi() as api:
        words = place.replay(api, source)
        assert (await place.run(*words, "--workers", 2)).code == 0
        for more, told in (
            (["--workers", 3], "was begun with --workers 2: go on with that number"),
            ([], "has the state of a replay with --workers 2: go on with that"),
            (
                ["--workers", 2, "--dedup-key", "interactionId"],
                "was begun with schema.dedup_key = interactionId, ",
            ),
            (["--workers", 2, "--items", "events"], "was begun with source.items = , and events are split"),
        ):
            done = await place.run(*words, *more)
            assert (done.code, told in done.err) == (2, True), done
        one = ["replay", source, "--api", api.url, "--no-auth", "--state-dir", place / "one"]
        assert (await place.run(*one)).code == 0
        done = await place.run(*one, "--workers", 2)
        assert (done.code, "has the state of one process: go on without --workers" in done.err) == (2, True)
        assert len(api.events) == 100
        (place.state / "parts.json").write_text("{")
        done = await place.run(*words, "--workers", 2)
        assert (done.code, "is damaged or of another version" in done.err) == (2, True)


async def test_a_half_line_is_left_for_the_next_run_and_then_taken_once(place: Place) -> None:
    source = place / "in.ndjson"
    whole = b"".join(line + b"\n" for line in events(40))
    source.write_bytes(whole[:-30])
    async with EventApi() as api:
        words = place.replay(api, source, "--workers", 2)
        done = await place.run(*words)
        assert (done.code, len(api.events)) == (3, 39)
        assert done.err.count("are not a whole event yet") == 1
        source.write_bytes(whole)
        done = await place.run(*words)
        assert (done.code, sorted(api.events)) == (0, events(40))
        assert "nothing was added since" not in done.err
        done = await place.run(*words, "--from-start")
        assert (done.code, place.report["duplicate"], len(api.events)) == (0, 40, 40)


async def test_an_api_that_is_away_ends_all_with_one_line_and_4(place: Place) -> None:
    source = write(place / "in.ndjson", events(40))
    config = place / "c.toml"
    config.write_text("[delivery]\nstartup_timeout = '300ms'\n")
    words = ["replay", source, "--api", "http://127.0.0.1:9", "--no-auth", "--state-dir", place.state]
    async with asyncio.timeout(patience(30)):
        done = await place.run(*words, "--config", config, "--workers", 2, "--quiet")
    assert done.code == 4
    assert done.err.count("has taken nothing for") == 1


SINKS = """
[schema]
name = "{schema}"
dedup_key = "id"
[[transforms]]
when.kind = ["test"]
drop = true
[sinks.crm]
type = "webhook"
url = "{url}/crm"
when.kind = ["order", "test"]
[[sinks.crm.transforms]]
set.seen = true
[sinks.hooks]
type = "webhook"
url = "{url}/hooks"
when.kind = ["order", "note"]
"""


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
async def test_several_sinks_with_patterns_and_transforms_get_what_they_get_of_one_process(
    place: Place, kind: str
) -> None:
    (place / "any.json").write_text('{"type": "object", "properties": {"id": {"type": "integer"}}}')
    kinds = ["order", "note", "noise", "test"]
    rows = [(number % 400, kinds[number % 4]) for number in range(500)]
    source = place / f"in.{kind}"
    if kind == "csv":
        source.write_text("".join(["id,kind\n", *(f"{one},{name}\n" for one, name in rows)]))
    elif kind == "parquet":
        columns = {"id": [one for one, _ in rows], "kind": [name for _, name in rows]}
        pq.write_table(pa.table(columns), source)
    else:
        source.write_text("".join(f'{{"id": {one}, "kind": "{name}"}}\n' for one, name in rows))
    found: list[tuple[list[tuple[str, bytes]], dict[str, Any]]] = []
    for workers in (1, 3):
        async with Receiver() as api:
            config = place / f"{workers}.toml"
            config.write_text(SINKS.format(schema=place / "any.json", url=api.url))
            words = ["replay", source, "--format", kind if kind != "ndjson" else "auto", "--config", config]
            more = ["--workers", workers, "--state-dir", place / f"{workers}", "--json", "--quiet"]
            done = await place.run(*words, *more)
            assert done.code == 0, done
            found.append((sorted((one.path, one.body) for one in api.requests), done.json))
    (one, alone), (several, together) = found
    assert several == one
    for name in ("accepted", "delivered", "duplicate", "unmatched", "dropped", "keys"):
        assert together[name] == alone[name], name
    for name in ("crm", "hooks"):
        for count in ("routed", "delivered", "dropped", "requests"):
            assert together["sinks"][name][count] == alone["sinks"][name][count]
    assert together["sources"] == alone["sources"]


async def test_where_one_cannot_begin_the_others_end_and_the_next_run_goes_on(place: Place) -> None:
    source = write(place / "in.ndjson", events(4_000, note="n" * 600))
    second = parts(place)[1]
    second.mkdir(parents=True)
    async with EventApi(slow) as api:
        words = place.replay(api, source, "--workers", 2, "--max-batch-events", 20)
        lock = DirectoryLock(second)
        try:
            done = await place.run(*words)
        finally:
            lock.release()
        assert done.code == 2
        assert f"the state directory {second} is in use by process {os.getpid()}" in done.err
        assert len(api.events) < 2_500
        assert (await place.run(*words)).code == 0
        assert sorted(api.events) == events(4_000, note="n" * 600)


async def test_a_replay_in_parts_has_its_state_to_itself(place: Place) -> None:
    source = write(place / "in.ndjson", events(100))
    async with EventApi(lambda request: Hang()) as api:
        words = place.replay(api, source, "--workers", 2)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.requests) == 2)
            other = await place.run(*words)
            assert (other.code, f"is in use by process {running.process.pid}" in other.err) == (2, True)
