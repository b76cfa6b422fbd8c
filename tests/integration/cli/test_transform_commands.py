"""``ingestd test``, what ``routes test`` and ``check`` say of transforms, and their exit codes."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from ingestd.app.reload import cold_changes
from ingestd.cli.group import cli
from ingestd.config import load
from ingestd.core.errors import UserError
from tests.each import each

QUEUE = "routingMetadata.queueId"
EVENT = (
    '{"eventType":"call","eventTime":"2026-01-01T10:00:00Z","interactionId":"i-1","routingMetadata":'
    '{"queueId":"q","skill":"s","actionType":"ANSWER"},"attributes":{"phone":"+4930123"},"schemaVersion":1}'
)
CONFIG = """
[api]
url = "http://127.0.0.1:9"
no_auth = true

[sinks.crm]
type = "webhook"
url = "http://127.0.0.1:9/crm"
order_by = "routingMetadata.queueId"
when.eventType = ["call"]

[[sinks.crm.transforms]]
redact = ["attributes.phone"]
method = "mask"
last = 2

[[sinks.crm.transforms]]
keep = ["eventType", "attributes"]

[sinks.main]
type = "webhook"
url = "http://127.0.0.1:9/main"

[[transforms]]
drop = true
when.eventType = ["test"]
"""
TEST = """
[[tests]]
name = "the end of the number"
event = '%s'
gets.crm = '{"attributes": {"phone": "***23"}, "eventType": "call"}'
gets.main = '%s'
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "ingestd.toml"
    path.write_text(CONFIG + text)
    return str(path)


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words])


def told(tmp_path: Path, tests: str) -> Result:
    return run("test", "--config", write(tmp_path, tests))


def test_a_test_passes_by_what_the_sink_gets_whatever_the_order_of_its_names(tmp_path: Path) -> None:
    result = told(tmp_path, TEST % (EVENT, EVENT))
    assert (result.exit_code, result.stdout) == (
        0,
        "ok    the end of the number\n1 of 1 tests are as expected\n",
    )
    result = run("test", "--json", "--config", write(tmp_path, TEST % (EVENT, "dropped")))
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert found == {
        "test": "the end of the number",
        "ok": False,
        "wrong": [f"main: expected dropped; it gets {EVENT}"],
    }


@each(
    ("test", "wrong"),
    [
        (f"event = '{EVENT}'\ngets.crm = '{{\"eventType\":\"call\"}}'",
         'crm: attributes: expected nothing, got {"phone": "***23"}'),
        (f"event = '{EVENT}'\ngets.crm = 'unmatched'", "crm: expected unmatched; it gets {"),
        (f"event = '{EVENT.replace('call', 'chat')}'\ngets.crm = '{{}}'",
         "crm: expected an event; it is unmatched: it does not match its pattern"),
        (f"event = '{EVENT.replace('call', 'test')}'\ngets.main = '{{}}'",
         "main: expected an event; it is dropped: a transform drops it"),
        (f"event = '{EVENT}'\nrejected = 'eventTime'", "it is valid, and should be rejected"),
        ("event = {}\ngets.main = 'dropped'", "it is rejected: "),
        ("event = {}\nrejected = 'no such words'", "it is rejected, but not with 'no such words': "),
        ("event = '{'\nrejected = 'no such words'", "it is rejected, but not with 'no such words': "),
    ],
)  # fmt: skip
def test_what_is_not_as_expected_is_said(tmp_path: Path, test: str, wrong: str) -> None:
    result = told(tmp_path, f"[[tests]]\n{test}")
    assert (result.exit_code, wrong in result.stdout) == (3, True), result.output
    assert result.stdout.startswith("FAIL  test 1\n")


@each(
    ("test", "words"),
    [
        ("", "there are no [[tests]] in"),
        ("[[tests]]\nevent = '{}'", "number 1 of tests: it expects nothing"),
        (
            "[[tests]]\nevent = '{}'\ngets.cmr = 'dropped'",
            "gets.cmr: there is no such sink that sends: ",
        ),
        ("[[tests]]\nevent = '{}'\ngets.crm = 'droped'", "expected a JSON object, or one of dropped, failed"),
        ("[[tests]]\nevent = 5", "number 1 of tests: event: expected an event, as JSON text or as a table"),
        ("[[tests]]\nevent = {a = 2026-01-01}\ngets.crm = 'dropped'", "number 1 of tests: event: not JSON"),
    ],
)
def test_a_test_that_cannot_be_is_refused_with_its_place(tmp_path: Path, test: str, words: str) -> None:
    error = told(tmp_path, test).exception
    assert isinstance(error, UserError)  # main.py tells it
    assert (words in str(error), error.exit_code) == (True, 2), error


def test_routes_test_shows_what_each_sink_gets(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    (found,) = map(json.loads, run("routes", "test", "--json", "--config", file, EVENT).stdout.splitlines())
    gets = {one["sink"]: one.get("gets") for one in found["sinks"]}
    assert gets["main"] == {"event": EVENT}
    assert gets["crm"] == {"event": '{"eventType":"call","attributes":{"phone":"***23"}}'}
    result = run("routes", "test", "--config", file, '{"eventType":"test"}')
    assert (result.exit_code, "dropped: a transform drops it" in result.stdout) == (0, True)


def test_check_says_which_steps_there_are_and_what_they_take_away(tmp_path: Path) -> None:
    result = run("check", "--config", write(tmp_path, ""))
    lines = [line.split(None, 2) for line in result.stdout.splitlines() if " transforms " in line]
    assert [(level, text) for level, _, text in lines] == [
        ("ok", "crm: drop, redact, keep"),
        (
            "warn",
            f"crm: its order_by is {QUEUE}, and a step takes that away: there is no order then",
        ),
        ("ok", "main: drop"),
    ]
    wrong = run("check", "--config", write(tmp_path, '[[sinks.main.transforms]]\njq = ".a |"\n'))
    assert wrong.exit_code == 2
    assert "step 1 of sinks.main.transforms: jq: error: syntax error" in wrong.stdout


def test_changed_steps_need_a_restart_and_that_is_said(tmp_path: Path) -> None:
    one = load(write(tmp_path, ""), {})
    other = load(
        write(tmp_path, "[[transforms]]\nremove = ['x']\n[[sinks.main.transforms]]\nremove = ['y']\n"), {}
    )
    assert cold_changes(one, other) == ["transforms", "sinks.main.transforms"]


@each(
    ("test", "level", "words"),
    [
        (f"event = '{EVENT}'\ngets.crm = 'unmatched'", "FAIL", "test 1: crm: expected unmatched; it gets {"),
        (
            f"event = '{EVENT}'\ngets.crm = 'unmatched'",
            "FAIL",
            "1 of 1 are not as expected: see `ingestd test`",
        ),
        ("event = {}\nrejected = 'eventType'", "ok", "1 of 1 are as expected"),
        ("event = 5", "FAIL", "number 1 of tests: event: expected an event"),
    ],
)
def test_check_runs_the_tests_of_the_configuration(tmp_path: Path, test: str, level: str, words: str) -> None:
    path = write(tmp_path, f"[[tests]]\n{test}\n")
    result = run("check", "--config", path, "--state-dir", str(tmp_path / "state"), "--json")
    found = [one for one in json.loads(result.stdout)["checks"] if words in one["text"]]
    assert [(one["level"], result.exit_code) for one in found] == [(level, 2 if level == "FAIL" else 0)]
