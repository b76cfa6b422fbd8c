"""``ingestd demo`` ends with three commands that look into a rejected event, correct it and send it."""

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingestd.cli.demo import SAMPLE
from ingestd.cli.group import cli


def run(*words: str) -> str:
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_what_it_says_at_the_end_works_when_it_is_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["some folder/ingestd"])
    (tmp_path / "ingestd-demo/state").mkdir(parents=True)
    for name in (SAMPLE, "state/state.db"):  # of an earlier one, which it replaces
        (tmp_path / "ingestd-demo" / name).write_text("old")
    told = run("demo", "--events", "900")
    look, correct, send = (shlex.split(line) for line in told.splitlines()[-3:])
    assert {words[0] for words in (look, correct, send)} <= {"ingestd", "some folder/ingestd"}
    assert "HOLD_" in run(*look[1:])
    pipe, into = correct.index("|"), correct.index(">")
    payload = run(*correct[1:pipe])
    sed, (_, wrong, right, _) = correct[pipe + 1], correct[pipe + 2].split("/")
    assert (sed, wrong in payload, correct[into + 1 :]) == ("sed", True, ["ingestd-demo/corrected.json"])
    Path(correct[into + 1]).write_text(payload.replace(wrong, right, 1))
    assert run(*send[1:]) == "1 delivered, 0 failed, 0 not sent\n"
    assert json.loads(run(*look[1:], "--json"))["state"] == "delivered"


def test_a_folder_with_other_files_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    done = CliRunner().invoke(cli, ["demo", "--dir", str(tmp_path)])
    assert "has other files in it: choose another folder with --dir" in str(done.exception)
    assert not (tmp_path / SAMPLE).exists()
