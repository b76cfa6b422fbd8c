"""The manual page and the completion of shells."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ingestd.cli.group import cli
from ingestd.cli.manual import _walk
from tests.each import each


def invoke(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_the_manual_names_every_command_and_option_and_is_clean_roff() -> None:
    page = invoke("man").stdout
    plain = page.replace("\\-", "-")
    for words, command in _walk(["ingestd"], cli):
        if len(words) == 1:
            continue  # its options are those of any command
        assert f"\n.SS {' '.join(words)} " in plain
        for parameter in command.params:
            hidden = getattr(parameter, "hidden", False)  # it is there to be refused in words
            shown = [option in plain for option in parameter.opts if option.startswith("--")]
            assert not any(shown) if hidden else all(shown), words
    requests = {line.split()[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert requests == {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".nf", ".fi"}
    assert page.count("\n.nf\n") == page.count("\n.fi\n") > 10
    assert set(re.findall(r"\\.", page)) <= {"\\-", "\\e", "\\(", "\\&"}
    assert page.startswith('.TH INGESTD 1 "" "ingestd ')


@each(
    ("shell", "variable", "file"),
    [
        ("bash", "XDG_DATA_HOME", "bash-completion/completions/ingestd"),
        ("zsh", "ZDOTDIR", ".zfunc/_ingestd"),
        ("fish", "XDG_CONFIG_HOME", "fish/completions/ingestd.fish"),
    ],
)
def test_a_completion_is_printed_or_installed_where_its_shell_looks(
    shell: str, variable: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    printed = invoke("completion", shell).stdout
    assert "_INGESTD_COMPLETE" in printed
    told = invoke("completion", shell, "--install")
    assert (tmp_path / file).read_text() == printed, told.output
    assert "is written: a new shell has it" in told.stdout


def test_what_is_completed_are_the_commands() -> None:
    given = {"_INGESTD_COMPLETE": "bash_complete", "COMP_WORDS": "ingestd do", "COMP_CWORD": "1"}
    done = CliRunner().invoke(cli, [], env=given, prog_name="ingestd")
    assert "doctor" in done.output
