"""``ingestd audit`` as a process and in process: what is found, how it looks, what hostile lines do."""

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingestd.cli.group import cli
from ingestd.core.errors import UserError
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from tests.each import each

GARBAGE = b"\x1b[31mred\xff\x00\n"
HUGE = b'{"event":"' + b"x" * 3_000_000 + b'"}\n'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three files; the lines between hold what nobody ought to have written."""
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(path, max_bytes=900)
    for number in range(12):
        audit(
            AuditEntry.BATCH_DELIVERED if number % 2 else AuditEntry.LANE_CHANGED,
            sink="crm" if number < 6 else "lake",
            request_id=f"r-{number:02}",
            events=number,
            reason="The Réason\n\x1b[31m \ud800" if number == 4 else None,
        )
    audit.close()
    assert len(list(tmp_path.iterdir())) >= 3
    return path


def run(name: str, *words: object) -> Result:
    return CliRunner().invoke(cli, ["audit", name, *map(str, words)])


def events_in(result: Result) -> list[int]:
    assert result.exit_code == 0, result.output
    return [int(number) for number in re.findall(r"events=(\d+)", result.output)]


# --- verify ---


def test_verify_says_that_all_is_well_and_exits_with_0(log: Path) -> None:
    done = run("verify", "--state-dir", log.parent)
    assert done.exit_code == 0
    assert re.match(
        r"12 lines in \d files: 12 chained by 1 process; 0 problems\nnote .*\nlast  [0-9a-f]{12}:11:",
        done.output,
    )


def test_verify_exits_with_3_and_says_where_and_what(log: Path) -> None:
    older = log.with_name("audit.jsonl.1")
    older.write_bytes(
        older.read_bytes().replace(b'"sink":"crm"', b'"sink":"CRM"', 1).replace(b"lake", b"lave", 1)
    )
    done = run("verify", log)
    assert done.exit_code == 3
    assert re.search(r"^BAD   audit\.jsonl\.1:\d: was changed$", done.output, re.MULTILINE)
    told = json.loads(run("verify", log, "--json").stdout)
    assert told["ok"] is False
    assert told["problems"][0]["file"] == "audit.jsonl.1"
    assert told["problem_count"] == len(told["problems"])


def test_verify_looks_for_what_was_noted_down(log: Path) -> None:
    last = json.loads(run("verify", log, "--json").stdout)["last"]
    assert run("verify", log, "--noted", last).exit_code == 0
    assert run("verify", log, "--noted", last[:-1]).exit_code == 3


def test_verify_tells_a_torn_line_and_lines_from_before_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"time":"2026","event":"RUN_STARTED"}\n')
    audit = AuditLog(path)
    audit(AuditEntry.RUN_STARTED)
    audit(AuditEntry.RUN_FINISHED)
    audit.close()
    os.truncate(path, path.stat().st_size - 5)
    done = run("verify", path)
    assert done.exit_code == 0
    assert (
        "torn  audit.jsonl:3: not written to its end, after a crash or on a full disk; no forgery"
        in done.output
    )
    assert "1 chained by 1 process, 1 from before there was a chain, 1 torn; 0 problems" in done.output


@each("name", ["verify", "tail", "grep"])
def test_a_log_that_is_not_there_is_the_users_to_put_right(name: str, tmp_path: Path) -> None:
    done = run(name, "--state-dir", tmp_path / "none")
    assert isinstance(done.exception, UserError)
    assert (done.output, done.exception.exit_code) == ("", 2)
    assert str(done.exception).endswith("audit.jsonl: name it, or its directory with --state-dir")


def test_the_log_is_found_by_configuration_environment_or_as_the_only_one(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "ingestd.toml"
    config.write_text(f'[audit]\nfile = "{log}"\n')
    assert len(events_in(run("tail", "--config", config))) == 12
    config.write_text(f'[state]\ndir = "{log.parent}"\n')
    assert len(events_in(run("grep", "--config", config))) == 12
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    for number in range(2):
        other = AuditLog(tmp_path / "xdg" / "ingestd" / str(number) / "audit.jsonl")
        other(AuditEntry.RUN_STARTED, events=number)
        other.close()
        if number == 0:
            assert events_in(run("tail")) == [0]
    assert isinstance(run("tail").exception, UserError)
    assert "choose one with --state-dir" in str(run("tail").exception)


# --- tail ---


@pytest.mark.parametrize("count", [0, 1, 5, 9, 12, 100])
def test_tail_shows_the_last_lines_over_all_files(count: int, log: Path) -> None:
    assert events_in(run("tail", "-n", count, log)) == list(range(max(0, 12 - count), 12))


def test_tail_counts_lines_that_are_longer_than_what_is_read_at_once(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b'{"events":1}\n' + HUGE + b'{"events":2}')
    assert run("tail", "-n", 1, log).output.split() == ["?", "events=2"]
    assert len(run("tail", "-n", 3, log).output.splitlines()) == 3


def test_a_line_is_time_event_and_fields_and_drives_no_terminal(log: Path) -> None:
    with log.open("ab") as file:
        file.write(GARBAGE)
    shown = run("tail", "-n", 100, log).output
    assert re.search(
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  LANE_CHANGED +sink=crm request_id=r-04 ",
        shown,
        re.MULTILINE,
    )
    assert 'reason="The Réason\\n\\u001b[31m \\ud800"' in shown
    assert "\\x1b[31mred\\xff\\x00" in shown
    assert shown.replace("\n", "").isprintable()
    assert "chain" not in shown


def test_json_is_the_lines_as_they_stand(log: Path) -> None:
    with log.open("ab") as file:
        file.write(GARBAGE)
    assert run("tail", "-n", 2, "--json", log).output == log.read_text("latin-1").splitlines(True)[-2]


# --- grep ---


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), list(range(12))),
        (("--event", "batch_delivered"), [1, 3, 5, 7, 9, 11]),
        (("--event", "LANE_CHANGED", "--sink", "lake"), [6, 8, 10]),
        (("--request-id", "r-1"), [10, 11]),
        (("RÉASON",), [4]),
        (("request_id=r-03",), [3]),
        (("nowhere",), []),
        (("--since", "1h"), list(range(12))),
        (("--event", "NONE", "--event", "LANE_CHANGED", "r-08"), [8]),
    ],
)
def test_grep_finds_over_all_files_what_was_asked_for(
    words: tuple[str, ...], expected: list[int], log: Path
) -> None:
    with log.open("ab") as file:
        file.write(GARBAGE + HUGE + b'["no object"]\n')
    assert events_in(run("grep", "--file", log, *words)) == expected


def test_grep_since_leaves_out_what_is_older(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    lines = [
        {"time": (now - timedelta(hours=hours)).isoformat(timespec="milliseconds"), "events": hours}
        for hours in (500, 3, 2, 0)
    ]
    (tmp_path / "audit.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("grep", "--state-dir", tmp_path, "--since")
    assert events_in(run(*words, "150m")) == [2, 0]
    assert events_in(run(*words, "30d")) == [500, 3, 2, 0]


def test_grep_shows_garbage_that_has_the_text_and_nothing_else_was_asked_for(log: Path) -> None:
    with log.open("ab") as file:
        file.write(GARBAGE)
    assert "\\x1b[31mred" in run("grep", "--file", log, "31mRED").output
    assert "red" not in run("grep", "--file", log, "31mRED", "--sink", "crm").output
    assert run("grep", "--file", log, "31mRED", "--json").output == ""


def test_a_time_that_is_none_is_the_users_to_put_right(log: Path) -> None:
    error = run("grep", "--file", log, "--since", "yesterday").exception
    assert isinstance(error, UserError)
    assert "--since: 'yesterday' is not a duration" in str(error)
