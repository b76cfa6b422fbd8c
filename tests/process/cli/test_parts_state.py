"""``replay --workers``: what several processes would do otherwise than one is refused, and so is a state
directory that is not, or not all, of theirs."""

import json
import shutil
import socket

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestd.app.parts.reports import PartReport
from ingestd.app.parts.together import PartedReplay, PartProcess
from ingestd.app.replay_progress import ReplayProgress
from tests.event_api import INVALID, EventApi, event, events, write
from tests.process.cli.support import Place
from tests.process.cli.test_parts import parts

pytestmark = pytest.mark.anyio


async def test_a_replay_by_one_process_does_not_go_on_with_the_state_of_a_part(place: Place) -> None:
    source = write(place / "in.ndjson", events(60))
    async with EventApi() as api:
        words = ["replay", source, "--api", api.url, "--no-auth", "--state-dir"]
        assert (await place.run(*words, place.state, "--workers", 2)).code == 0
        for more in ([], ["--workers", 2]):
            done = await place.run(*words, parts(place)[0], *more)
            assert done.code == 2
            assert f"go on with --workers 2 --state-dir {place.state}" in done.err
        assert len(api.events) == 60


async def test_parts_without_the_file_that_says_how_they_were_split_are_refused(place: Place) -> None:
    """Split by something else, an event that was of a part could be of one that has passed it."""
    source = write(place / "in.ndjson", events(60))
    async with EventApi() as api:
        words = place.replay(api, source)
        assert (await place.run(*words, "--workers", 2)).code == 0
        (place.state / "parts.json").unlink()
        for workers in (2, 3):
            done = await place.run(*words, "--workers", workers)
            assert (done.code, "parts.json, which says how the input was split, is gone" in done.err) == (
                2,
                True,
            )
        assert len(api.events) == 60


async def test_the_audit_file_of_a_part_does_not_tell_an_exit_code_which_is_that_of_all(place: Place) -> None:
    source = write(place / "in.ndjson", [*events(20), INVALID])
    async with EventApi() as api:
        assert (await place.run(*place.replay(api, source, "--workers", 2))).code == 3
    for part in parts(place):
        last = json.loads((part / "audit.jsonl").read_text().splitlines()[-1])
        assert (last["event"], last["exit_code"]) == ("RUN_FINISHED", None)


async def test_that_nothing_was_added_since_is_said_once_and_only_where_all_have_read_to_the_end(
    place: Place,
) -> None:
    source = write(place / "in.ndjson", events(60))
    async with EventApi() as api:
        words = place.replay(api, source, "--workers", 2)
        await place.run(*words)
        shutil.rmtree(parts(place)[0])
        for times in (0, 1):
            done = await place.run(*words)
            assert (done.code, done.err.count("nothing was added since")) == (0, times)


def test_a_share_of_rejected_events_is_one_of_all_that_were_read(place: Place) -> None:
    """Alike as they are, all of them may be of one process, which may be the first to tell."""
    ends = [socket.socketpair() for _ in range(2)]
    processes = [PartProcess(str(number), place.state, mine, 0) for number, (mine, _) in enumerate(ends)]
    for share, told in (("2%", None), ("1%", "30 of 2,000 events are rejected")):
        replay = PartedReplay(processes, share, print)
        for process, accepted, rejected in ((processes[0], 1_000, 30), (processes[1], 1_000, 0)):
            progress = ReplayProgress(read=2_000, accepted=accepted, rejected=rejected)
            report = {"rejected": rejected, "interrupted": False}
            replay._receive(process, PartReport(progress, report))
            assert (told or "") in replay._error
            assert bool(replay._error) == bool(told)
        for one in processes:
            one.latest = PartReport()
    for end in (one for pair in ends for one in pair):
        end.close()


SINK = """
[sinks.crm]
type = "webhook"
url = "http://127.0.0.1:9"
order_by = "attributes.k"
[[sinks.crm.transforms]]
"""
ORDER = "may set what sinks.crm keeps its order by"


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (
            'redact = ["interactionId"]',
            "step 1 of sinks.crm.transforms: with --workers redact needs a secret",
        ),
        ('rename = {"attributes.note" = "attributes.k"}', ORDER),
        ("set.attributes.k = 1", ORDER),
        ("set.attributes = {}", ORDER),
        ('template = {"attributes.k.id" = "{schemaVersion}"}', ORDER),
        ('redact = ["attributes"]\nmethod = "mask"', ORDER),
        ('jq = "."', ORDER),
        ('python = "os.path:join"', ORDER),
        ('remove = ["attributes.k"]', ""),
        ('rename = {"attributes.k" = "attributes.l"}', ""),
        ('redact = ["attributes.k"]\nsecret = "shared-by-all"', ""),
        ("set.attributes.other = 1", ""),
    ],
)
def test_transforms_that_each_process_would_make_in_its_own_way_are_refused(
    place: Place, step: str, told: str
) -> None:
    config = place / "c.toml"
    config.write_text(f'[delivery]\nstartup_timeout = "100ms"\n{SINK}{step}\n')
    source = write(place / "in.ndjson", [event(1)])
    words = ("replay", source, "--config", config, "--state-dir", place.state, "--workers", 2)
    done = place.call(*words)
    assert done.code == (2 if told else 4), done
    assert told in done.err
    assert place.state.exists() != bool(told)


async def test_rows_of_a_table_are_not_split_by_another_schema_than_before(place: Place) -> None:
    """A cell that is a number, and no text any more, may make its row an event of another part."""
    schema = place / "s.json"
    ids = range(200)
    lines = write(place / "in.ndjson", [b'{"id":%d}' % one for one in ids])
    rows = place / "in.parquet"
    pq.write_table(pa.table({"id": [str(one + 1000) for one in ids]}), rows)
    async with EventApi() as api:
        words = ["--schema", schema, "--dedup-key", "id", "--workers", 2]
        for source, kind, code in (
            (lines, "integer", 0),
            (lines, "number", 0),
            (rows, "string", 0),
            (lines, "integer", 0),
            (rows, "integer", 2),
            (rows, "string", 0),
        ):
            schema.write_text(f'{{"type":"object","properties":{{"id":{{"type":"{kind}"}}}}}}')
            done = await place.run(*place.replay(api, source, *words))
            assert done.code == code, done
            told = f"was begun with schema of tables = {schema} ("
            assert (told in done.err) == (code == 2)
        assert len(set(api.events)) == len(api.events) == 400
