"""``ingestd replay``: every form of source, the bytes, the ledger, the report, the exit codes."""

import asyncio
import gzip
import json
import os
import threading
from pathlib import Path

import pytest

from ingestd.sources.files.zstd_frames import import_zstd
from tests.event_api import INVALID, EventApi, assert_balanced, event, events, write
from tests.process.cli.support import COMMAND, Place
from tests.receiver import Cut, Reply, Request, in_turn

zstd = import_zstd()

pytestmark = pytest.mark.anyio

LINES = events(700)
NDJSON = b"".join(line + b"\n" for line in LINES)
ARRAY = b"[\n" + b" ,\r\n".join(LINES) + b"\n]"

REPORT_KEYS = {
    *("accepted", "delivered", "duplicate", "rejected", "dead_lettered", "in_flight", "batches", "requests"),
    *("retries", "bytes", "seconds", "events_per_second", "retried_delivered", "dead_letters_by_reason"),
    *("retried_duplicate", "retried_failed", "retried_aside"),
    *(
        "unmatched_item_errors",
        "unmatched",
        "dropped",
        "dropped",
        "sinks",
        "sources",
        "interrupted",
        "error",
        "exit_code",
    ),
}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.ndjson", NDJSON),
        ("crlf-and-no-end.ndjson", b"\xef\xbb\xbf" + b"\r\n".join(LINES)),
        ("array.json", ARRAY),
        ("lines.gz", gzip.compress(NDJSON[:1000]) + gzip.compress(NDJSON[1000:])),
        ("array-without-a-telling-name", gzip.compress(ARRAY)),
        ("lines.zst", zstd.compress(NDJSON)),
    ],
)
async def test_each_form_of_file_is_delivered_with_its_own_bytes(
    place: Place, name: str, content: bytes
) -> None:
    (place / name).write_bytes(content)
    async with EventApi() as api:
        done = await place.run(*place.replay(api, place / name, "--max-batch-events", 100))
    assert done.code == 0, done
    assert sorted(api.events) == LINES
    assert len(set(api.keys)) == len(api.keys) == 7
    report = place.report
    assert report.keys() == REPORT_KEYS
    assert_balanced(report)
    assert report["delivered"] == report["accepted"] == 700
    assert report["requests"] == report["batches"] == 7
    assert report["bytes"] == sum(len(request.body) for request in api.batches)
    assert report["sources"] == [{"path": str(place / name), "bytes_read": len(content), "damage": None}]


@pytest.mark.parametrize("content", [NDJSON, gzip.compress(NDJSON), ARRAY])
async def test_standard_input_and_named_pipes_are_sources_too(place: Place, content: bytes) -> None:
    async with EventApi() as api:
        done = await place.run(*place.replay(api, "-"), given=content)
        assert done.code == 0, done
        assert sorted(api.events) == LINES
        assert place.report["sources"][0]["path"] == "standard input"

        pipe = place / "pipe"
        os.mkfifo(pipe)
        more = events(50, first=1000)
        writer = threading.Thread(target=pipe.write_bytes, args=(b"\n".join(more),))
        writer.start()
        done = await place.run(*place.replay(api, pipe))
        writer.join()
    assert done.code == 0, done
    assert sorted(api.events) == LINES + more
    assert_balanced(place.report)


async def test_several_files_are_one_run_and_the_command_has_a_console_script(place: Place) -> None:
    first, second = write(place / "a.ndjson", events(30)), write(place / "b.gz", events(30, first=30))
    async with EventApi() as api:
        done = await place.run(*place.replay(api, first, second))
    assert (done.code, len(api.batches)) == (0, 1)
    assert api.events == events(60)
    assert [source["path"] for source in place.report["sources"]] == [str(first), str(second)]
    script = Path(COMMAND[0]).parent / "ingestd"
    process = await asyncio.create_subprocess_exec(script, "--version", stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.startswith(b"ingestd, version ")


async def test_a_request_is_what_the_api_expects(place: Place) -> None:
    write(place / "in.ndjson", events(3))
    place.env = {"GENESYS_CLIENT_ID": "me", "GENESYS_CLIENT_SECRET": "shh"}
    async with EventApi() as api:
        done = await place.run(
            *("replay", place / "in.ndjson", "--api", api.url + "/", "--token-url", api.url + "/oauth/token"),
            *("--state-dir", place.state),
        )
    assert done.code == 0, done
    (request,) = api.batches
    assert (request.method, request.path) == ("POST", "/api/v2/events/ingest")
    assert request.headers["authorization"] == "Bearer CANARY-token-a1b2"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == request.headers["x-request-id"]
    assert request.body == b'{"events":[' + b",".join(events(3)) + b"]}"


async def test_a_batch_is_repeated_with_the_same_bytes_under_the_same_key(place: Place) -> None:
    write(place / "in.ndjson", events(10))
    place.env = {"INGESTD_DELIVERY_BACKOFF_BASE": "20ms"}
    async with EventApi(
        in_turn(Reply(503), Cut("before_headers"), Cut("rst"), Reply(500), Reply(202))
    ) as api:
        done = await place.run(*place.replay(api, place / "in.ndjson"))
    assert done.code == 0, done
    assert len(api.batches) == 5
    assert len({(request.body, request.headers["idempotency-key"]) for request in api.batches}) == 1
    assert (place.report["requests"], place.report["retries"], place.report["batches"]) == (5, 4, 1)


async def test_bad_events_cost_only_themselves_and_the_run_ends_with_3(place: Place) -> None:
    good = events(5)
    write(place / "in.ndjson", [good[0], INVALID, good[1], b"not json", good[2], good[1], *good[3:]])
    async with EventApi() as api:
        done = await place.run(*place.replay(api, place / "in.ndjson"))
    assert done.code == 3, done
    assert sorted(api.events) == good
    report = place.report
    assert_balanced(report)
    assert (report["accepted"], report["delivered"], report["duplicate"], report["rejected"]) == (8, 5, 1, 2)
    assert report["dead_letters_by_reason"] == {"invalid": 1, "unparsable": 1}
    assert [letter["payload"] for letter in place.letters()] == [INVALID, b"not json"]
    assert "ingestd dlq list" in done.out


async def test_limits_of_a_batch_are_kept(place: Place) -> None:
    write(place / "in.ndjson", LINES)

    async def slow(request: Request) -> Reply:
        await asyncio.sleep(0.01)
        return Reply()

    async with EventApi(slow) as api:
        done = await place.run(
            *place.replay(api, place / "in.ndjson", "--max-batch-bytes", "10kB", "--max-in-flight", 2)
        )
    assert done.code == 0, done
    assert sorted(api.events) == LINES
    sizes = [len(request.body) for request in api.batches]
    assert max(sizes) <= 10_000
    assert sum(sizes) / len(sizes) > 8_000
    assert api.max_in_flight == 2


async def test_an_answer_that_names_events_costs_only_those(place: Place) -> None:
    write(place / "in.ndjson", events(10))
    refusal = Reply(422, body=b'{"errors":[{"index":3,"message":"no such queue"}]}')
    async with EventApi(in_turn(refusal, Reply())) as api:
        done = await place.run(*place.replay(api, place / "in.ndjson", "--json", "--quiet"))
    assert done.code == 3, done
    assert done.err == "ingestd: exit code 3: of 10 events 9 were delivered; 1 dead letters\n"
    first, second = api.batches
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
    (letter,) = place.letters()
    assert (letter["payload"], letter["reason"], letter["line"]) == (event(3), "refused", 4)
    assert "no such queue" in letter["detail"]
    assert json.loads(done.out) == place.report
    assert_balanced(place.report)
    assert (place.report["delivered"], place.report["dead_lettered"]) == (9, 1)


async def test_json_prints_the_report_and_quiet_prints_nothing(place: Place) -> None:
    write(place / "in.ndjson", events(10))
    async with EventApi() as api:
        as_json = await place.run(*place.replay(api, place / "in.ndjson", "--json"))
        assert json.loads(as_json.out) == place.report
        quiet = await place.run(*place.replay(api, place / "in.ndjson", "--from-start", "--quiet"))
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


async def test_a_damaged_archive_is_said_and_ends_with_3(place: Place) -> None:
    packed = gzip.compress(NDJSON)
    (place / "cut.gz").write_bytes(packed[: len(packed) // 2])
    async with EventApi() as api:
        done = await place.run(*place.replay(api, place / "cut.gz"))
    assert done.code == 3, done
    assert "cut.gz: the archive is damaged or cut off" in done.said[-1]
    assert 0 < len(api.events) < 700
    assert api.events == LINES[: len(api.events)]
    assert_balanced(place.report)


async def test_every_schema_form_decides_what_is_valid(place: Place) -> None:
    (place / "order.json").write_text('{"type":"object","required":["orderId","meta"]}')
    (place / "shop.py").write_text("import pydantic\n\nclass Order(pydantic.BaseModel):\n    orderId: int\n")
    orders = [b'{"orderId":%d,"meta":{"version":%d}}' % (n // 2, n % 2) for n in range(6)]
    cloud = [b'{"specversion":"1.0","id":"%d","source":"/s","type":"t"}' % n for n in range(4)]
    place.env = {"PYTHONPATH": str(place.directory)}
    key = ("--dedup-key", "orderId,meta.version")
    for number, (schema, lines, delivered) in enumerate(
        [
            (("cloudevent",), [*cloud, cloud[0], INVALID], 4),
            ((place / "order.json", *key), [*orders, orders[0], b'{"orderId":1}'], 6),
            (("shop:Order", *key), [*orders, orders[1], b'{"orderId":"one"}'], 6),
        ]
    ):
        source = write(place / f"{number}.ndjson", lines)
        place.state = place / f"state{number}"
        async with EventApi() as api:
            done = await place.run(*place.replay(api, source, "--schema", *schema))
        assert done.code == 3, done
        assert sorted(api.events) == sorted(lines[:delivered])
        assert (place.report["duplicate"], place.report["rejected"]) == (1, 1)


async def test_the_sandbox_can_be_replayed_into(place: Place) -> None:
    write(place / "in.ndjson", [*events(20), event(3)])
    done = await place.run("replay", place / "in.ndjson", "--sandbox", "--json")
    assert done.code == 0, done
    report = json.loads(done.out)
    assert (report["delivered"], report["duplicate"]) == (20, 1)
    assert [path.name for path in (place / "xdg" / "ingestd").iterdir()] == ["sandbox"]


async def test_two_processes_do_not_share_a_state_directory(place: Place) -> None:
    write(place / "in.ndjson", events(10))
    held = asyncio.Event()

    async def hold(request: object) -> Reply:
        await held.wait()
        return Reply()

    async with EventApi(hold) as api, place.start(*place.replay(api, place / "in.ndjson")) as first:
        await api.until(lambda api: len(api.requests) == 1)
        second = await place.run(*place.replay(api, place / "in.ndjson"))
        assert second.code == 2
        assert len(second.said) == 1
        assert f"is in use by process {first.process.pid}" in second.err
        held.set()
        done = await first.finish()
    assert done.code == 0
    assert len(api.batches) == 1
