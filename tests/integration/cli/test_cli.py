"""The commands' words, without a process: help, version, usage."""

import importlib
import json
import os
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ingestd import __version__
from ingestd.app.replay_report import write_report
from ingestd.cli.group import _COMMANDS, cli
from ingestd.core.errors import UserError
from tests.each import each


def everything(command: click.Command, *path: str) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    names = command.list_commands(context)
    found = [(name, command.get_command(context, name)) for name in names]
    return [one for name, sub in found if sub for one in everything(sub, *path, name)]


def test_help_names_every_command_and_every_exit_code() -> None:
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    words = " ".join(shown.output.split())
    for name, (_, text) in _COMMANDS.items():
        assert f" {name} {text}" in words
    for code in ("0 all delivered", "2 usage", "3 finished", "4 the API", "1 a fault", "130 interrupted"):
        assert code in " ".join(shown.output.split())


def test_the_version_is_the_package_s() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"ingestd, version {__version__}\n"


@each("name", _COMMANDS)
def test_every_command_that_help_names_exists_and_is_described(name: str) -> None:
    command = getattr(importlib.import_module(_COMMANDS[name][0]), name.replace("-", "_"))
    assert isinstance(command, click.Command)
    assert command.help


def test_a_command_that_there_is_not_is_told_with_the_one_that_is_most_like_it() -> None:
    shown = CliRunner().invoke(cli, ["repaly", "events.ndjson"])
    assert (shown.exit_code, shown.output.splitlines()[-1]) == (
        2,
        "Error: No such command 'repaly'. Did you mean 'replay'?",
    )


def test_the_help_of_a_group_names_its_commands_in_whole_sentences() -> None:
    groups = {path[0] for path, _ in everything(cli) if len(path) > 1}
    cut = {
        f"{name}: {line.strip()}"
        for name in groups
        for line in CliRunner().invoke(cli, [name, "--help"]).output.split("\nCommands:")[1].splitlines()
        if line.endswith("...")
    }
    assert groups
    assert not cut


def test_every_option_of_replay_and_dlq_says_what_it_is_for() -> None:
    obvious = {"as_json"}
    for path, command in everything(cli):
        for option in command.params if path[0] in ("replay", "dlq") else ():
            if isinstance(option, click.Option) and option.name not in obvious and not option.hidden:
                assert option.help, f"{' '.join(path)} {option.opts}"


def test_no_help_shows_the_marks_that_keep_its_lines_apart() -> None:
    for path, _ in everything(cli):
        shown = CliRunner().invoke(cli, [*path, "--help"]).output
        assert "\\b" not in shown, path
    lines = CliRunner().invoke(cli, ["run", "--help"]).output.splitlines()
    assert "    ingestd run --config /etc/ingestd/ingestd.toml" in lines


def test_replay_has_the_options_that_were_promised() -> None:
    shown = CliRunner().invoke(cli, ["replay", "--help"]).output
    for option in (
        *("--api", "--region", "--token-url", "--no-auth", "--sandbox", "--schema", "--dedup-key"),
        *("--state-dir", "--max-batch-bytes", "--max-batch-events", "--max-in-flight", "--give-up-after"),
        *("--from-start", "--report", "--metrics-port", "--audit-log", "--config", "--json", "--quiet"),
    ):
        assert re.search(rf"^  {option}\b", shown, re.MULTILINE), option


@each("words", [["nothing"], ["replay"], ["replay", "--nothing", "x"], ["dlq", "nothing"]])
def test_wrong_words_end_with_2(words: list[str]) -> None:
    assert CliRunner().invoke(cli, words).exit_code == 2


def test_a_report_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_report(str(target), {"accepted": 1})
    assert json.loads(target.read_text()) == {"accepted": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    with pytest.raises(UserError, match="cannot write the report"):
        write_report(str(tmp_path / "no" / "where"), {})


@each("name", ["pipe", "link"])
def test_a_report_goes_into_a_pipe_or_a_device_and_does_not_take_its_place(tmp_path: Path, name: str) -> None:
    """As ``--report >(jq .)`` and ``--report /dev/null``."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_report(str(tmp_path / name), {"accepted": 1})
    assert os.read(reader, 100) == b'{\n  "accepted": 1\n}\n'
    os.close(reader)
    assert {*os.listdir(tmp_path)} == {"pipe", "link"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no such device")
def test_a_report_that_a_full_disk_does_not_take_is_told(tmp_path: Path) -> None:
    (tmp_path / "report").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write the report .*: No space left on device"):
        write_report(str(tmp_path / "report"), {"accepted": 1})
