"""The commands that look into a state directory find it by --state-dir, --config or --sandbox, or say what to
do."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingestd.app.state_place import sandbox_directory, sandbox_state
from ingestd.cli.group import cli
from ingestd.store.connection import FILE_NAME, connect
from tests.each import each

COMMANDS = (("dlq", "list", "--json"), ("spool", "stat", "--json"), ("audit", "tail"))


def call(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    connect(directory / FILE_NAME).close()
    (directory / "audit.jsonl").write_text('{"time":"2026-01-01T00:00:00.000+00:00","event":"RUN_STARTED"}\n')
    return directory


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "ingestd"


@each("words", COMMANDS)
def test_each_command_takes_each_option(words: tuple[str, ...], base: Path) -> None:
    named = base.parent / "named"
    if not base.exists():
        for name in ("sandbox", "api.example.com", "sinks_crm"):
            made(base / name)
        made(named)
    config = base.parent / f"{'_'.join(words)}.toml"
    assert call(*words, "--state-dir", named).exit_code == 0
    assert call(*words, "--sandbox").exit_code == 0
    for text in (
        f"[state]\ndir = '{named}'\n",
        "[api]\nurl = 'https://api.example.com'\n",  # no credentials are needed to look
        "[sinks.crm]\ntype = 'webhook'\nurl = 'https://crm.example.com'\n",
    ):
        config.write_text(text)
        done = call(*words, "--config", config)
        assert done.exit_code == 0, (text, done.output, done.exception)
    several = call(*words)
    assert "there are several state directories" in str(several.exception)
    assert "sandbox" not in str(several.exception)
    both = call(*words, "--sandbox", "--config", config)
    assert "Use either --sandbox" in str(both.exception)


def test_the_sandbox_is_found_by_itself_only_where_there_is_nothing_else(base: Path) -> None:
    made(base / "sandbox")
    assert json.loads(call("dlq", "list", "--json").output)["total"] == 0
    made(base / "api.example.com")
    assert call("dlq", "list").output == "no dead letters\n"


def test_what_a_replay_into_the_sandbox_leaves_replaces_what_an_earlier_one_left(base: Path) -> None:
    for number in range(2):
        with sandbox_state() as directory:
            connect(directory / FILE_NAME).close()
            (directory / str(number)).touch()
    assert sorted(path.name for path in base.iterdir()) == ["sandbox"]
    assert (sandbox_directory() / "1").exists()
    assert not (sandbox_directory() / "0").exists()
    with sandbox_state():
        pass  # it could not even begin
    assert (sandbox_directory() / "1").exists()
    assert [path.name for path in base.iterdir()] == ["sandbox"]


def test_where_nothing_can_be_kept_a_replay_goes_on_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with sandbox_state() as directory:
        assert directory.is_dir()
    assert not directory.exists()
