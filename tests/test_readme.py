"""The README says what is true: its example runs, its tables are the code's, its options exist."""

import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from ingestd.cli.main import cli
from ingestd.config import Settings, check_run, load
from ingestd.core.audit import Entry
from ingestd.core.metrics import CATALOGUE
from ingestd.core.reasons import RETRYABLE, Reason

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str = "") -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in blocks if containing in text)


def rows(first_cell: str) -> dict[str, list[str]]:
    """The table whose rows begin with code that matches ``first_cell``: code -> the other cells."""
    found = re.findall(rf"^\| `({first_cell})` \| (.*) \|$", README, re.MULTILINE)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in found}


def test_the_table_of_metrics_is_the_catalogue() -> None:
    assert rows(r"ingestd_\w+") == {name: [kind, text] for name, (kind, text) in CATALOGUE.items()}


def test_the_table_of_reasons_is_the_closed_list() -> None:
    table = rows("|".join(Reason))
    assert list(table) == [reason.value for reason in Reason]
    assert {name for name, cells in table.items() if cells[1].startswith("yes")} == set(RETRYABLE)


def test_every_audit_entry_is_named() -> None:
    assert [entry for entry in Entry if f"`{entry}`" not in README] == []


def test_the_configuration_example_is_the_defaults_and_loads(tmp_path: Path) -> None:
    file = tmp_path / "ingestd.toml"
    file.write_text(block("toml"), encoding="utf-8")
    given = load(str(file), {}, {})
    defaults = Settings()
    for section in ("window", "batch", "delivery", "source", "letters", "schema_", "spool", "admin", "log"):
        assert getattr(given, section) == getattr(defaults, section), section
    unlike = {"producers", "tls"}
    assert given.ingest.model_dump(exclude=unlike) == defaults.ingest.model_dump(exclude=unlike)
    documented = tomllib.loads(block("toml"))
    for name, info in Settings.model_fields.items():
        assert (info.alias or name) in documented, f"[{name}] is not in the README"
    assert documented["ingest"].keys() == Settings().ingest.model_dump().keys()
    check_run(given)


@pytest.mark.parametrize(
    "line",
    [line[2:] for name in ("zcat", "dlq", "config show") for line in block("console", name).splitlines()],
)
def test_every_command_in_the_readme_parses(line: str) -> None:
    words = shlex.split(line.rpartition("|")[2], comments=True)
    words = words[: words.index(">")] if ">" in words else words
    command: click.Command = cli
    context = click.Context(cli)
    arguments = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments.pop(0))
        assert found is not None
        command = found
    command.make_parser(context).parse_args(list(arguments))


@pytest.mark.parametrize("name", ["replay", "check", "config", "dlq", "sandbox", "demo"])
def test_help_of_every_command_shows(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ingestd.cli.main", name, "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage:" in done.stdout


def test_the_worked_example_runs_as_it_stands(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = block("bash", "ingestd sandbox").replace("8700", str(port))
    waited = f"until (: < /dev/tcp/127.0.0.1/{port}) 2>/dev/null; do :; done\n"
    script = script.replace("--quiet &\n", "--quiet &\ntrap 'kill %1' EXIT\n" + waited)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"delivered +1\n .*duplicate +1\n .*rejected +1\n", done.stdout), done.stdout
    assert "1 delivered, 0 failed, 0 not sent" in done.stdout
    assert done.stdout.rstrip().endswith("no dead letters")
