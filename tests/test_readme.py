"""The README says what is true: its example runs, its tables are the code's, its options exist."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import typing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ingestd.app.reload import _LIVE
from ingestd.cli.group import _COMMANDS, cli
from ingestd.cli.sandbox import sandbox
from ingestd.config import IngestConfig, SchemaConfig, Settings, check_run, load
from ingestd.config.sinks import SINK_TYPES, AuthConfig, HttpSinkConfig, LakeConfig, Meaning
from ingestd.core.reasons import RETRYABLE, Reason
from ingestd.processing import routes
from ingestd.processing.patterns.syntax import OPERATORS
from ingestd.sandbox import faults, remote_apis
from ingestd.sinks import genesys_mapping
from ingestd.sources.http.media_type import FORMATS
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.catalogue import CATALOGUE, SINK_CATALOGUE
from tests.machine import patience
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str = "") -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in blocks if containing in text)


def between(start: str, end: str) -> str:
    rest = README[README.index(start) :]
    return rest[: rest.index(end)]


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
    assert [entry for entry in AuditEntry if f"`{entry}`" not in README] == []


def test_the_metrics_by_sink_are_those_between_the_two_that_the_text_names() -> None:
    names = list(CATALOGUE)
    first, last = re.findall(r"Those from `(\w+)` to `(\w+)`, and", README)[0]
    assert names[names.index(first) : names.index(last) + 1] == list(SINK_CATALOGUE)


def test_the_configuration_example_is_the_defaults_and_loads(tmp_path: Path) -> None:
    file = tmp_path / "ingestd.toml"
    example = block("toml", "[window]")
    file.write_text(example, encoding="utf-8")
    given = load(str(file), {}, {})
    defaults = Settings()
    for section in ("window", "batch", "delivery", "source", "letters", "schema_", "spool", "admin", "log"):
        assert getattr(given, section) == getattr(defaults, section), section
    unlike = {"producers", "tls"}
    assert given.ingest.model_dump(exclude=unlike) == defaults.ingest.model_dump(exclude=unlike)
    documented = tomllib.loads(example)
    for name, info in Settings.model_fields.items():
        assert (info.alias or name) in documented, f"[{name}] is not in the README"
    assert documented["ingest"].keys() == Settings().ingest.model_dump().keys()
    assert documented["delivery"].keys() == Settings().delivery.model_dump().keys()
    for sink in given.sinks.values():
        assert sink == type(sink).model_validate({"type": sink.type, "url": sink.url})
    check_run(given)


@pytest.mark.parametrize(
    "line",
    [
        line[2:]
        for name in ("zcat", "dlq retry", "config show", "spool stat", "ingestd run", "routes test", "--wait")
        for line in block("console", name).splitlines()
        if line.startswith("$ ingestd") or "| ingestd" in line
    ],
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
    command.parse_args(click.Context(command, parent=context), list(arguments))


def test_the_table_of_commands_has_them_all() -> None:
    table = between("| command | |", "## What it promises")
    assert re.findall(r"^\| `ingestd (\w+)` \|", table, re.MULTILINE) == list(_COMMANDS)


@pytest.mark.parametrize("name", _COMMANDS)
def test_help_of_every_command_shows(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ingestd.cli.main", name, "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage:" in done.stdout


def run_script(script: str, directory: Path, **env: str) -> str:
    """What bash writes to standard output; jobs that it began end with it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("INGESTD_", "GENESYS_"))
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "trap 'kill $(jobs -p) 2>/dev/null || :' EXIT\n" + script],
        cwd=directory,
        env={**clean, "PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=patience(90),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_worked_example_runs_as_it_stands(tmp_path: Path) -> None:
    port = free_port()
    script = block("bash", "ingestd replay").replace("8700", str(port))
    waited = f"until (: < /dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.1; done\n"
    said = run_script(script.replace("--quiet &\n", "--quiet &\n" + waited), tmp_path)
    assert re.search(r"delivered +1\n .*duplicate +1\n .*rejected +1\n", said), said
    assert "1 delivered, 0 failed, 0 not sent" in said
    assert said.rstrip().endswith("no dead letters")


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl")
def test_the_service_of_the_readme_runs_and_answers_as_its_comments_say(tmp_path: Path) -> None:
    script = block("bash", "ingestd run")
    expected = re.findall(
        r"(?<=[^\n]\n)# (.*)$", script, re.MULTILINE
    )  # after a blank line it is only a comment
    assert len(expected) > 5
    ports = {port: str(free_port()) for port in ("8700", "8080", "9464")}
    for port, free in ports.items():
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}").replace(
            f"--port {port}", f"--port {free}"
        )
    listen = {
        "INGESTD_INGEST_LISTEN": f"127.0.0.1:{ports['8080']}",
        "INGESTD_ADMIN_LISTEN": f"127.0.0.1:{ports['9464']}",
    }
    said = run_script(script, tmp_path, **listen).splitlines()
    assert [line for line in said if line in expected] == expected, "\n".join(said)
    status = json.loads((tmp_path / "status.json").read_bytes())
    table = re.findall(
        r"^\| `(\w+)`(?:: |, )?(.*?) \| ", between("**When you are woken.**", "```console"), re.MULTILINE
    )
    assert len(table) > 5
    for name, rest in table:
        if name == "lakes":
            continue  # this service has none; test_readme_sinks.py looks at one
        part = status[name][0] if isinstance(status[name], list) else status[name]
        inner = part if isinstance(part, dict) else status
        assert [word for word in re.findall(r"`(\w+)`", rest) if word not in inner] == [], name


# --- the service ---


def test_every_status_that_a_producer_may_get_is_explained() -> None:
    table = re.findall(r"^\| ([0-9, ]+) \| ", between("**Bodies**", "**Who may post.**"), re.MULTILINE)
    explained = [int(status) for cell in table for status in cell.split(",")]
    sources = [
        path.read_text(encoding="utf-8")
        for room in ("sources/http", "httpd", "intake")
        for path in (ROOT / "ingestd" / room).glob("*.py")
    ]
    calls = r"(?:BadRequest|SubmissionRefused|DeferredSubmission|Response|problem|_refuse)\(\s*([1-5]\d\d)\b"
    sent = {int(status) for text in sources for status in re.findall(calls, text)}
    assert len(sent) > 12
    assert sorted(explained[1:]) == sorted({*sent, 503, 507} - {200})
    assert explained[0] == 200


def test_every_content_type_that_is_taken_is_named() -> None:
    named = set(re.findall(r"`(application/[a-z+-]+)`", between("**Bodies**", "`?atomic=true`")))
    assert named == set(FORMATS)


def test_what_a_reload_takes_over_is_what_the_readme_says() -> None:
    assert set(_LIVE) == {"schema", "spool", "log", "ingest"}
    assert SchemaConfig.model_fields.keys() == _LIVE["schema"]
    assert (_LIVE["spool"], _LIVE["log"]) == ({"max_bytes"}, {"level"})
    assert IngestConfig.model_fields.keys() - _LIVE["ingest"] == {"listen", "allow_anonymous", "tls"}
    assert "`[schema]`, `spool.max_bytes`, `log.level`, and of `[ingest]` all but" in README
    assert "all but `listen`, `allow_anonymous` and `tls`" in README


def test_every_file_and_room_that_how_it_works_names_is_there() -> None:
    text = between("## How it works", "## Measured")
    named = set(re.findall(r"`((?:ingestd/)?[a-z_]+(?:/[a-z_]+)*(?:/|\.py))`", text))
    assert len(named) > 15
    places = (ROOT, ROOT / "ingestd")
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


# --- sinks and routes ---


def named(text: str) -> set[str]:
    """Words in code spans, and the keys of the examples."""
    spans = re.findall(r"`([^`\n]+)`", text)
    keys = re.findall(r"^\[?([\w.]+)(?:\]$| = )", text, re.MULTILINE)
    return {word for piece in (*spans, *keys) for word in re.findall(r"\w+", piece)}


@pytest.mark.parametrize("kind", SINK_TYPES)
def test_every_setting_of_a_sink_is_named_on_the_page_of_sinks(kind: str) -> None:
    page = between("## Sinks", "## Dead letters") + block("toml", "[window]")
    section = page[page.index(f"### `{kind}`") :].partition("\n### ")[0]
    own = SINK_TYPES[kind].model_fields.keys() - HttpSinkConfig.model_fields.keys()
    text = section + block("toml", "[window]") if SINK_TYPES[kind] is LakeConfig else section
    assert sorted(own - named(text)) == []
    assert sorted(SINK_TYPES[kind].model_fields.keys() - named(page)) == []
    assert f"| `{kind}` |" in page


def test_every_kind_of_credentials_is_explained_with_all_its_settings() -> None:
    text = between("### Credentials", "### Answers")
    kinds = typing.get_args(AuthConfig.model_fields["type"].annotation)
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(kinds)
    assert sorted(AuthConfig.model_fields.keys() - {"type"} - named(text)) == []


def test_every_meaning_that_a_status_can_be_given_is_named() -> None:
    comment = re.findall(r"on_status = .* # (.*)", between("### Answers", "### Confirmation"))[0]
    assert set(re.findall(r"\w+", comment)) - {"or"} == set(typing.get_args(Meaning))


def test_the_mapping_of_interactions_is_told_action_by_action_and_field_by_field() -> None:
    actions = rows("|".join(genesys_mapping._ACTIONS))
    assert actions.keys() == genesys_mapping._ACTIONS.keys()
    table = between("| field | made from |", "</details>")
    enumerations = ("TRANSFER_TYPES", "FINAL_STATES", "DISCONNECT_TYPES")
    for name in enumerations:
        assert f"({', '.join(getattr(genesys_mapping, name))})" in table
    source = (ROOT / "ingestd/sinks/genesys_mapping.py").read_text(encoding="utf-8").partition('"""\n\n')[0]
    array = r"\b(\w+Events)\b"
    assert re.findall(array, source.partition("field of")[0]) != []
    for name in re.findall(array, source):
        assert f"`{name}`" in README, name


def test_the_table_of_patterns_is_right_about_each_value() -> None:
    text = between("| pattern | matches", "`anything-but` also takes")
    told = re.findall(r"^\| `(\[.*?\])` \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    assert len(told) > 12
    for pattern, *cells in told:
        compiled = routes.compile({"sink": {"x": json.loads(pattern)}})
        for cell, expected in zip(cells, (True, False), strict=True):
            for value in re.findall(r"`(.*?)`", cell):
                event = b"{}" if value == "absent" else b'{"x":%b}' % value.encode()
                assert compiled.explain(event)[0].matches is expected, (pattern, value)
    assert sorted(OPERATORS.keys() - set(re.findall(r'"([a-z-]+)":', text))) == []


def test_routes_test_prints_what_the_readme_shows(tmp_path: Path) -> None:
    page = between("## Routes", "## Delivery")
    file = tmp_path / "ingestd.toml"
    file.write_text(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0], encoding="utf-8")
    (shown,) = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    runs = re.findall(r"^\$ ingestd (.*)\n((?:(?!\$ ).*\n)+)", shown, re.MULTILINE)
    assert len(runs) == 2
    for words, expected in runs:
        typed = [str(file) if word == "ingestd.toml" else word for word in shlex.split(words)]
        assert CliRunner().invoke(cli, typed).output == expected


def test_the_sandboxs_faults_and_paths_are_all_named() -> None:
    text = between("## The sandbox", "## How it works")
    options = {option for parameter in sandbox.params for option in parameter.opts}
    assert [option for option in re.findall(r"`(--[a-z-]+)", text) if option not in options] == []
    kinds = {*faults._KINDS, *faults._EVENT_SCOPES, *faults._CONTROL_SCOPES}
    told = {
        kind
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for kind in re.findall("`(.*?)`", row)
    }
    assert kinds <= told
    assert {kind for kind in told - kinds if "/" not in kind and "{" not in kind} == {
        "STATUS",
        "token-STATUS",
    }
    paths = (remote_apis.EVENT_BRIDGE_PATH, remote_apis.JOURNEY_PATH, remote_apis.WEBHOOK_PATH)
    for path in (*paths, remote_apis.HOOK_PATH):
        assert f"`POST {path}`" in text
