"""``ingestd routes test``: what it prints, what it takes for an event, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ingestd.cli.group import cli
from ingestd.core.errors import UserError

CONFIG = """
[sinks.crm]
type = "webhook"
url = "https://crm.example.com/hook"
when.attributes.priority = [{numeric = [">=", 5]}]
when.routingMetadata.actionType = ["ANSWER"]

[sinks.main]
type = "ingest_api"
when = '{"eventType": [{"anything-but": null}]}'
"""
ANSWER = '{"attributes":{"priority":7},"routingMetadata":{"actionType":"ANSWER"},"eventType":"e"}'
LOW = '{"attributes":{"priority":3},"eventType":"e"}'
NOWHERE = '{"attributes":{"priority":3}}'


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "ingestd.toml"
    path.write_text(CONFIG.replace('{"anything-but": null}', '{"exists": true}'))
    return str(path)


def run(*words: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["routes", "test", *words], input=stdin)


def test_an_event_is_told_the_sinks_it_reaches_and_what_decides(config: str) -> None:
    shown = run("--config", config, LOW)
    assert shown.exit_code == 0
    assert shown.output.splitlines() == [
        "event 1 reaches: main",
        '  yes  main  eventType is "e" (any value)',
        "  no   crm   attributes.priority is 3, expected a number at least 5",
    ]


def test_several_events_are_told_in_turn_and_one_that_reaches_nothing_makes_it_3(config: str) -> None:
    shown = run("--config", config, "-", stdin=f"{ANSWER}\n\n  {NOWHERE}\r\n")
    assert shown.exit_code == 3
    heads = [line for line in shown.output.splitlines() if line.startswith("event")]
    assert heads == ["event 1 reaches: crm, main", "event 2 reaches no sink"]


def test_json_has_for_each_event_what_the_text_says(config: str) -> None:
    shown = run("--config", config, "--json", f"[{ANSWER},{NOWHERE}]")
    told: list[Any] = [json.loads(line) for line in shown.output.splitlines()]
    assert [(one["event"], one["reaches"]) for one in told] == [(1, ["crm", "main"]), (2, [])]
    assert told[1]["sinks"][1] == {
        "sink": "main",
        "matches": False,
        "why": "eventType is not there, expected any value",
    }
    assert shown.exit_code == 3


@pytest.mark.parametrize("prefix", ["", "@"])
def test_a_file_holds_one_event_or_many(config: str, tmp_path: Path, prefix: str) -> None:
    pretty = tmp_path / "event.json"
    pretty.write_text(json.dumps(json.loads(ANSWER), indent=2))
    assert run("--config", config, prefix + str(pretty)).output.startswith("event 1 reaches: crm, main\n")
    many = tmp_path / "events.ndjson"
    many.write_text(f"{LOW}\n{LOW}\n")
    assert run("--config", config, prefix + str(many)).output.count("reaches: main") == 2


def test_without_sinks_everything_goes_to_the_ingest_api() -> None:
    shown = run(NOWHERE)
    assert shown.exit_code == 0
    assert shown.output.splitlines()[:2] == [
        "no [sinks] are configured: every event goes to ingest_api",
        "event 1 reaches: ingest_api",
    ]
    assert json.loads(run("--json", NOWHERE).output)["reaches"] == ["ingest_api"]


@pytest.mark.parametrize(
    ("event", "stdin", "message"),
    [
        ("nowhere.json", None, "'nowhere.json' is neither an event in JSON nor a file to read: No such file"),
        ("\0", None, "is neither an event in JSON nor a file to read"),
        ("/", None, "is neither an event in JSON nor a file to read: Is a directory"),
        ('{"a":', None, "event 1 is not a JSON object"),
        ("-", "", "there is no event"),
        ("-", b'{"a":1}\n17\n', "event 2 is not a JSON object"),
        ("-", b"[1]", "event 1 is not a JSON object"),
        ("-", b"\xff\xfe", "event 1 is not a JSON object"),
        ("-", b"[" * 100_000, "event 1 is not a JSON object"),
        ("-", b" " * (16 * 1024**2 + 1), "is longer than 16777216 bytes"),
    ],
)
def test_what_is_no_event_is_a_usage_error_of_one_line(
    config: str, event: str, stdin: bytes | None, message: str
) -> None:
    shown = run("--config", config, event, stdin=stdin)
    assert isinstance(shown.exception, UserError)
    assert message in str(shown.exception)
    assert str(shown.exception).isprintable()
