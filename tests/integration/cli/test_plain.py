"""Lines that are read without click say what they say with it."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ingestd.cli import plain
from ingestd.cli.config import show
from ingestd.cli.group import cli
from ingestd.core.errors import UserError
from tests.each import each

WORDS = ["--json", "--config", "--state-dir", "a", "b.toml", "é", "-", "--", "-h", "--config=a", "--js", ""]
SETTINGS = '[log]\nlevel = "debug"\n[sinks.one]\ntype = "webhook"\nurl = "http://user:secret@127.0.0.1:9/"\n'


@given(st.lists(st.sampled_from(WORDS), max_size=5))
def test_words_that_are_taken_mean_what_they_mean_to_click(words: list[str]) -> None:
    taken = plain.read(words)
    try:
        given = show.make_context("show", [*words]).params
    except (click.ClickException, click.exceptions.Exit):
        assert taken is None
    else:
        assert taken is None or {**show.make_context("show", []).params, **taken} == given


def test_the_plain_line_of_each_option_is_taken() -> None:
    assert plain.read(["--config", "a", "--state-dir", "b", "--config", "c", "--json"]) == {
        "config_file": "c",
        "state_dir": "b",
        "as_json": True,
    }
    assert plain.read([]) == {}


@each("words", ["", "--json", "--config {file}", "--state-dir /s --config {file} --json"])
def test_what_is_printed_is_the_same(tmp_path: Path, words: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(SETTINGS)
    line = ["config", "show", *words.format(file=file).split()]
    by_click = CliRunner().invoke(cli, line)
    assert (by_click.exit_code, plain.answer(line)) == (0, by_click.output)


def test_a_mistake_in_the_file_is_told_in_the_same_words(tmp_path: Path) -> None:
    line = ["config", "show", "--config", str(tmp_path / "a.toml")]
    with pytest.raises(UserError) as told:
        plain.answer(line)
    assert str(told.value) == str(CliRunner().invoke(cli, line).exception)


def test_click_has_other_letters_other_commands_and_the_completion_of_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[tracing]\nservice_name = "süd"\n')
    assert plain.answer(["config", "show", "--config", str(file)]) is None
    assert plain.answer(["config", "schema"]) is None
    assert plain.answer(["config", "show", "--help"]) is None
    monkeypatch.setenv("_INGESTD_COMPLETE", "bash_complete")
    assert plain.answer(["config", "show"]) is None
