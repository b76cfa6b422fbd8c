"""What is said when something is wrong: one line, exit code 2, never a traceback."""

import pytest

from tests.event_api import EventApi, events, write
from tests.process.cli.support import Place

pytestmark = pytest.mark.anyio

API = ("--api", "http://127.0.0.1:9", "--no-auth")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "No API is set. Use --api URL or --region NAME. To try it out: `ingestd replay --sandbox`"),
        (("--region", "us-west-3"), "did you mean us-west-2?"),
        (("--region", "us-east-1"), "no credentials"),
        (("--region", "mypurecloud.de"), "no credentials"),
        (("--api", "https://example.com"), "Use --token-url URL, or --no-auth"),
        (("--api", "example.com"), "--api example.com: it must begin with https://"),
        ((*API, "--region", "us-east-1"), "Use either --api or --region"),
        ((*API, "--sandbox"), "Use either --sandbox"),
        ((*API, "--max-batch-bytes", "some"), "batch.max_bytes: 'some' is not a size"),
        ((*API, "--max-in-flight", "0"), "delivery.max_in_flight: expected greater"),
        ((*API, "--give-up-after", "soon"), "delivery.give_up_after: 'soon' is not a duration"),
        ((*API, "--metrics-port", "http"), "metrics.port"),
        ((*API, "--schema", "nothing"), "nothing"),
        ((*API, "--schema", "/nowhere.json"), "/nowhere.json"),
        ((*API, "--schema", "no.such.module:Model"), "no.such.module"),
        ((*API, "--dedup-key", "a..b"), "is not a path of a key"),
        ((*API, "--config", "/nowhere.toml"), "cannot read the configuration /nowhere.toml"),
        ((*API, "--state-dir", "/dev/null/x"), "cannot use the state directory"),
        ((*API, "--state-dir", "x" * 300), "xxx: File name too long"),  # as one that nobody may look into
        ((*API, "--state-dir", "x" * 300, "--workers", "2"), "xxx: File name too long"),
        ((*API, "--audit-log", "/dev/null/x"), "cannot write the audit log"),
        ((*API, "-", "-"), "can be read once only"),
        ((*API, "/nowhere.ndjson"), "cannot read /nowhere.ndjson: No such file"),
        ((*API, "/"), "it is a directory"),
        ((*API, "--no-such-option"), "No such option"),
        ((*API, "--workers", "0"), "0 is not in the range"),
        ((*API, "--workers", "2", "-"), "standard input can be read by one process only"),
    ],
)
def test_each_mistake_is_one_line_and_2(place: Place, words: tuple[str, ...], said: str) -> None:
    source = write(place / "in.ndjson", events(1))
    if "--state-dir" not in words:
        words = (*words, "--state-dir", str(place.state))
    done = place.call("replay", source, *words)
    assert done.code == 2, done
    assert said in done.said[-1]
    ours = [line for line in done.said if not line.startswith(("Usage:", "Try '"))]
    assert len([line for line in ours if line]) == 1, done.said


def test_a_setting_that_does_not_exist_is_said_with_what_was_probably_meant(place: Place) -> None:
    source = write(place / "in.ndjson", events(1))
    (place / "c.toml").write_text("[delivery]\nmax_inflight = 3\n")
    done = place.call("replay", source, *API, "--config", place / "c.toml")
    assert done.code == 2
    assert done.said == [
        f"ingestd: {place / 'c.toml'}: there is no setting delivery.max_inflight; did you mean max_in_flight?"
    ]


async def test_the_command_line_goes_before_the_environment_and_that_before_the_file(place: Place) -> None:
    source = write(place / "in.ndjson", events(60))
    (place / "c.toml").write_text("[batch]\nmax_events = 30\n[api]\nno_auth = true\n")
    for environment, words, batches in [
        ({}, (), 2),
        ({"INGESTD_BATCH_MAX_EVENTS": "20"}, (), 3),
        ({"INGESTD_BATCH_MAX_EVENTS": "20"}, ("--max-batch-events", 10), 6),
    ]:
        place.state = place / f"state{batches}"
        async with EventApi() as api:
            words = ("--api", api.url, "--config", place / "c.toml", "--state-dir", place.state, *words)
            done = await place.run("replay", source, *words, env=environment)
        assert (done.code, len(api.batches)) == (0, batches), done


async def test_a_report_that_cannot_be_written_is_said(place: Place) -> None:
    source = write(place / "in.ndjson", events(3))
    place.report_file = place / "nowhere" / "report.json"
    async with EventApi() as api:
        done = await place.run(*place.replay(api, source))
    assert done.code == 2
    assert done.said[-1].startswith("ingestd: cannot write the report")
    assert api.events == events(3)


async def test_a_state_file_that_is_damaged_is_said_and_ends_with_1(place: Place) -> None:
    source = write(place / "in.ndjson", events(3))
    place.state.mkdir()
    (place.state / "state.db").write_bytes(b"this is no database" * 100)
    async with EventApi() as api:
        done = await place.run(*place.replay(api, source))
        assert (done.code, api.requests) == (1, [])
        assert "state.db is damaged" in done.said[-1]
        listed = place.call(*place.dlq("list"))
    assert (listed.code, len(listed.said)) == (1, 1)
    assert "state.db is damaged" in listed.said[0]
