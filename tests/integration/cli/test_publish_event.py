"""``ingestd publish``: the event as a person gives it, and what is said of one that is wrong."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingestd.app.publish.event import Words, check_event, make_event
from ingestd.cli.group import cli
from ingestd.cli.input import read_input
from ingestd.core.clock import SystemClock, system_rng
from ingestd.core.errors import UserError
from tests.each import each

EVENT = b'{"specversion":"1.0","id":"o-1","source":"com.example","type":"order.created","data":{"n":1.50}}'


def test_an_event_made_of_words_is_valid_and_its_data_keeps_its_spelling() -> None:
    words = Words(type="t", source="s", data=b'{"n": 1.50, "big": 123456789012345678901234567890}').completed(
        SystemClock(), system_rng()
    )
    event = make_event(words)
    check_event(event)
    assert b'"n": 1.50' in event
    made = json.loads(event)
    assert (made["id"], made["time"], made["datacontenttype"]) == (words.id, words.time, "application/json")
    assert "subject" not in made
    check_event(make_event(Words(type="t", source="s").completed(SystemClock(), system_rng())))


@each("data", ["text", '1},"id":"x"', "", "{", "[" * 100_000])
def test_data_that_is_not_json_is_told_and_cannot_change_the_event(data: str) -> None:
    with pytest.raises(UserError, match="--data is not JSON"):
        make_event(Words(type="t", source="s", data=data.encode()).completed(SystemClock(), system_rng()))


def test_data_and_event_come_from_files_too(tmp_path: Path) -> None:
    file = tmp_path / "event.json"
    file.write_bytes(EVENT + b"\r\n")
    assert read_input(f"@{file}") == EVENT
    for name in (f"@{tmp_path / 'none'}", f"@{tmp_path}", "@\0", "@"):
        with pytest.raises(UserError, match="cannot read"):
            read_input(name)


@each(
    ("words", "said"),
    [
        ([], "give EVENT, or --type and --source"),
        (["--type", "t"], "give EVENT, or --type and --source"),
        (["{}", "--type", "t"], "EVENT is a complete CloudEvent"),
        (["--type", "t", "--source", "s", "--wait", "30"], "write --wait=30"),
        (["{}", "--sandbox", "--region", "us-east-1"], "Use either --sandbox or --region"),
        (["{}", "--api", "http://x", "--region", "us-east-1"], "Use either --api or --region"),
    ],
)
def test_words_that_do_not_fit_are_usage_errors(words: list[str], said: str) -> None:
    shown = CliRunner().invoke(cli, ["publish", *words])
    assert shown.exit_code == 2
    assert said in shown.output


@each(
    ("words", "said"),
    [
        (["{}"], "id: required, but missing; source: required, but missing"),
        (["not JSON"], "a valid CloudEvent: not JSON"),
        (["--type", "t", "--source", "s", "--time", "yesterday"], "time: expected an RFC 3339 time"),
        (["--type", "t", "--source", "s", "--wait=soon"], "--wait: 'soon' is not a duration"),
        ([EVENT.decode(), "--sink", "none"], "no such sink"),
        ([EVENT.decode()], "No API is set"),
    ],
)
def test_what_is_wrong_with_the_event_is_told_before_anything_is_sent(words: list[str], said: str) -> None:
    shown = CliRunner().invoke(cli, ["publish", *words])
    assert isinstance(shown.exception, UserError)
    assert said in str(shown.exception)
    assert shown.exception.exit_code == 2
