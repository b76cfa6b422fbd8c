"""The examples of sinks run as they stand, and what arrives is what stands below them."""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow.dataset
import pyarrow.fs
import pytest

from ingestd.app.replay import Replay, open_replay, run
from ingestd.app.replay_report import make_report
from ingestd.config import find_login, load
from ingestd.core.reasons import Reason
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.server import Running, Sandbox
from tests.aws import Aws, start_aws
from tests.docs.pages import PAGES, Page, is_of_sink, page
from tests.integration.sinks.test_eventbridge import bus_with_queue, received
from tests.process.cli.support import Place
from tests.receiver import Receiver, Reply, in_turn

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS1yZWFkbWUtMzItYnl0ZXM="
S3 = 'url = "s3://'
HURRY = """confirm.initial_delay = "10ms"
confirm.requests_per_minute = 6000
confirm.url"""
OBJECT_SCHEMA = '{"type": "object"}'
WEBHOOK = "/api/v2/integrations/webhooks/{token}/events"


class Example(NamedTuple):
    """A ``toml`` block and what follows it: ``events``, ``arrives`` (path -> events there), other blocks."""

    name: str
    toml: str
    events: str
    arrives: Mapping[str, Sequence[str]]
    others: Sequence[str]


def examples(one: Page) -> list[Example]:
    found: list[Example] = []
    blocks = [(block.language, block.text) for block in one.blocks]
    starts = [at for at, (language, _) in enumerate(blocks) if language == "toml"]
    for first, end in pairwise([*starts, len(blocks)]):
        (_, toml), *rest = blocks[first:end]
        events = next((text for language, text in rest if language == "json"), "")
        arrives = next((text for language, text in rest if language == "text"), "")
        others = [text for _, text in rest if text not in (events, arrives)]
        found.append(Example(f"{one.path.stem}-{first}", toml, events, by_path(arrives, events), others))
    return found


def by_path(text: str, events: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"(?:POST )?((?:OPTIONS )?/\S+?)(: the events as they are)?", line):
            raw = msgspec.json.decode(events, type=list[msgspec.Raw]) if match[2] else []
            lines = found[match[1]] = [bytes(event).decode() for event in raw]
        else:
            lines.append(line)
    return found


SINK_PAGES = [one for one in PAGES if is_of_sink(one.name)]
EXAMPLES = [example for one in SINK_PAGES for example in examples(one)]
ON_HTTP = [one for one in EXAMPLES if "eventbridge" not in one.name and S3 not in one.toml]


def find(words: str, name: str = "") -> Example:
    return next(one for one in (examples(page(name)) if name else EXAMPLES) if words in one.toml)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    return start_aws(monkeypatch)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the examples run: their relative paths lead here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "object.json").write_text(OBJECT_SCHEMA)
    return tmp_path


@asynccontextmanager
async def sandbox(toml: str) -> AsyncIterator[Running]:
    """As strict as the example asks for."""
    options = SandboxOptions(
        schema=None,
        webhook_secrets=[SECRET] if "standard_webhooks" in toml else (),
        handshake_required="handshake_origin" in toml,
    )
    async with Sandbox(options).serve() as running:
        yield running


def configure(toml: str, url: str, directory: Path) -> Path:
    """The example's file, with hosts and folders that are here."""
    toml = re.sub(r"https://[a-z.]+\.example\.com", url, toml)
    toml = toml.replace("/var/lake", str(directory / "lake"))
    toml = toml.replace("confirm.url", HURRY)
    contents = {"webhook_url": url + WEBHOOK.replace("{token}", "sandbox"), "crm_signing": SECRET}
    for name in re.findall(r"/run/secrets/(\w+)", toml):
        (directory / name).write_text(contents.get(name, "a-token-of-its-own") + "\n")
    file = directory / "ingestd.toml"
    file.write_text(toml.replace("/run/secrets", str(directory)))
    return file


async def replay(toml: str, events: str, directory: Path, url: str = "http://127.0.0.1:1") -> Replay:
    """A replay of ``events`` by the example's configuration; ``url`` is [api] and everybody else."""
    source = directory / "events.json"
    source.write_text(events)
    given = {
        ("api", "url"): url,
        ("api", "token_url"): f"{url}/oauth/token",
        ("api", "client_id"): "sandbox",
        ("api", "client_secret"): "sandbox",
        ("state", "dir"): str(directory / "state"),
        ("delivery", "backoff_base"): "10ms",
    }
    settings = load(str(configure(toml, url, directory)), given, {})
    warnings: list[str] = []
    async with open_replay(settings, find_login(settings), [str(source)], warn=warnings.append) as replay:
        await run(replay, warn=warnings.append)
    return replay


def assert_delivered(replay: Replay, example: Example) -> None:
    report, count = make_report(replay), len(json.loads(example.events))
    assert report["delivered"] == report["accepted"] == count > 0, report
    assert (report["exit_code"], report["error"]) == (0, None)
    for name, sink in report["sinks"].items():
        assert sink["delivered"] == sink["routed"] == count, name


@pytest.mark.parametrize("example", ON_HTTP, ids=[one.name for one in ON_HTTP])
async def test_each_sinks_events_arrive_as_its_page_says(example: Example, directory: Path) -> None:
    async with sandbox(example.toml) as running:
        assert_delivered(await replay(example.toml, example.events, directory, running.url), example)
        paths = running.sandbox.stats().paths
        assert example.arrives
        for path, lines in example.arrives.items():
            assert paths[path].requests, path
            kept = [event.decode() for event in running.sandbox.kept(path)]
            assert sorted(kept) == sorted(lines), path
            assert paths[path].events == paths[path].distinct == len(lines)
            assert paths[path].by_status.keys() <= {"200", "202"}, path


async def test_the_example_of_eventbridge_puts_its_events_on_the_bus(aws: Aws, directory: Path) -> None:
    example = find('type = "eventbridge"')
    bus, queue = bus_with_queue(aws)
    toml = example.toml.replace('"contact-centre"', f'"{bus}"\nurl = "{aws.url}/"')
    assert_delivered(await replay(toml, example.events, directory), example)
    events = json.loads(example.events)
    found = sorted(received(aws, queue), key=lambda one: str(one["time"]))
    assert [one["detail"] for one in found] == events
    assert [one["detail-type"] for one in found] == [event["eventType"] for event in events]
    assert {one["source"] for one in found} == {"com.example.contactcentre"}
    assert [one["time"] for one in found] == [event["eventTime"] for event in events]


async def test_the_example_of_a_lake_makes_the_files_and_manifests_it_shows(directory: Path) -> None:
    example = find("callback_url")
    async with sandbox(example.toml) as running:
        await replay(example.toml, example.events, directory, running.url)
        told = [json.loads(manifest) for manifest in running.sandbox.kept("/hooks/files")]
    lake = directory / "lake" / "events"
    there = {str(path.relative_to(lake)): path for path in lake.rglob("*") if path.is_file()}
    names = {one["name"] for one in told}
    assert {str(Path(name).parent) for name in names} == {
        f"date=2026-01-01/hour=10/type=routing.interaction.{kind}" for kind in ("queue", "answer")
    }
    beside = {str(Path(name).with_name(f"_{Path(name).name}.manifest.json")) for name in names}
    assert there.keys() == names | beside
    shown = json.loads(example.others[0].replace("…", ""))
    real = next(one for one in told if one["name"].startswith(str(Path(shown["name"]).parent)))
    assert real.keys() == shown.keys()
    same = ("version", "format", "events", "first_time", "last_time", "requests")
    assert [real[name] for name in same] == [shown[name] for name in same]
    assert len(real["name"]) == len(shown["name"])


async def test_the_example_of_a_lake_on_s3_is_read_back_by_the_lines_below_it(
    aws: Aws, directory: Path
) -> None:
    example, bucket = find(S3), aws.name()
    aws.client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": aws.region}
    )
    toml = example.toml.replace("events-archive", bucket) + f'endpoint_url = "{aws.url}"\n'
    async with sandbox(toml) as running:
        replayed = await replay(toml, example.events, directory, running.url)
    assert_delivered(replayed, example)
    s3 = pyarrow.fs.S3FileSystem(endpoint_override=aws.url, region=aws.region)
    seen: dict[str, Any] = {"s3": s3}
    exec(example.others[-1].replace("events-archive", bucket), seen)
    events = json.loads(example.events)
    assert [json.loads(event) for event in seen["table"]["event"].to_pylist()] == [events[1]]
    assert seen["table"]["event_type"].to_pylist() == [events[1]["eventType"]]
    batches = {line["request_id"] for line in audit(directory) if line["event"] == "BATCH_DELIVERED"}
    assert set(seen["table"]["request_id"].to_pylist()) == batches


def audit(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "state" / "audit.jsonl").read_text().splitlines()]


async def test_the_example_of_answers_reads_them_as_its_page_says(directory: Path) -> None:
    example = find("on_status", "docs/sinks/answers.md")
    (body,) = example.others
    script = in_turn(Reply(403), Reply(body=body.encode()), Reply())
    async with Receiver(script) as api:
        replayed = await replay(example.toml, example.events, directory, api.url)
        sent = [[event["orderId"] for event in request.json()] for request in api.requests]
    assert sent == [["O-1", "O-2", "O-3"], ["O-1", "O-2", "O-3"], ["O-2"]]
    ledger = replayed.pipeline.ledger
    assert (ledger.delivered, ledger.by_reason) == (2, {Reason.REFUSED: 1})
    told = page("docs/replay.md").section("Exit code and report")
    assert [name for name in make_report(replayed) if f"`{name}`" not in told] == []
    (letter,) = Place(directory).letters()
    assert json.loads(letter["payload"])["orderId"] == "O-3"
    assert "no such article" in letter["detail"]


async def test_the_example_of_confirmation_waits_until_the_api_has_delivered(directory: Path) -> None:
    toml = find("confirm", "docs/sinks/answers.md").toml
    events = find('"cloudevent"').events
    spoken = '[schema]\nname = "cloudevent"\n' + toml.replace('"1s"', '"10ms"').replace("= 60 ", "= 6000 ")
    async with sandbox(toml) as running:
        replayed = await replay(spoken, events, directory, running.url)
        asked = running.sandbox.stats().paths["/api/v2/eventbridge/events/{id}"].requests
    assert replayed.pipeline.ledger.delivered == 2
    assert asked >= 2
