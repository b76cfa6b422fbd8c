"""What the pages say in tables is what the code has."""

import json
import re
import typing

import pytest

from ingestd.app.reload import _LIVE
from ingestd.cli.group import _COMMANDS
from ingestd.cli.sandbox import sandbox
from ingestd.config import IngestConfig, SchemaConfig, genesys_regions
from ingestd.config.ingest_section import SOURCES
from ingestd.control.engine.kinds import KINDS
from ingestd.core.errors import UserError
from ingestd.core.reasons import REJECTED, RETRYABLE, Reason
from ingestd.processing import routes
from ingestd.processing.patterns.syntax import OPERATORS
from ingestd.sandbox import faults, remote_apis
from ingestd.schemas import genesys_models
from ingestd.sinks import genesys_events, genesys_mapping
from ingestd.sinks.lake import LakeConfig
from ingestd.sinks.registry import SINK_TYPES
from ingestd.sinks.settings import HttpSinkConfig, MeaningWord
from ingestd.sources.http.body import FORMATS
from ingestd.transport.auth_config import AuthConfig
from tests.architecture.test_way_of_one_event import BOUNDS
from tests.docs.pages import ROOT, page, rows
from tests.each import each
from tests.process.cli.control_support import TABLES


def test_the_readmes_table_of_commands_has_them_all() -> None:
    table = page("README.md").section("Commands")
    listed = re.findall(r"^\| `ingestd ([\w-]+)` \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(_COMMANDS)


def test_the_readmes_figures_are_those_of_the_page_of_benchmarks() -> None:
    pages = page("docs/benchmarks.md").text
    shown = re.findall(
        r"^\| .* \| ([\d,]+) \| ([\d.]+) \| (\d+) \|$", page("README.md").section("Measured"), re.MULTILINE
    )
    assert len(shown) == 5
    for rate, cpu, memory in shown:
        assert re.search(rf"^\|.* {rate} .* {cpu} .*\b{memory} \|$", pages, re.MULTILINE), rate


def test_the_way_of_one_event_is_as_long_as_its_test_allows() -> None:
    table = page("docs/architecture.md").section("The way of one event")
    shown = re.findall(r"^\| `(\w+)`: .*? \| (\d+) \| (\d+) \| ", table, re.MULTILINE)
    assert {kind: (int(files), int(calls)) for kind, files, calls in shown} == BOUNDS


def test_every_promise_of_several_processes_has_tests_against_real_servers() -> None:
    found = dict(re.findall(r"^\| (P\d): (.*)$", page("docs/scale-out.md").section("Promises"), re.MULTILINE))
    assert sorted(found) == [f"P{number}" for number in range(1, 8)]
    sources = [one.read_text(encoding="utf-8") for one in (ROOT / "tests/process/cluster").glob("test_*.py")]
    there = {name for text in sources for name in re.findall(r"def (test_\w+)", text)}
    for promise, cells in found.items():
        named = re.findall(r"`(test_\w+)`", cells)
        assert named, promise
        assert set(named) <= there, promise


# --- the service ---


def test_every_status_that_a_producer_may_get_is_explained() -> None:
    table = re.findall(r"^\| ([0-9, ]+) \| ", page("docs/service.md").section("Answers"), re.MULTILINE)
    explained = [int(status) for cell in table for status in cell.split(",")]
    sources = [
        path.read_text(encoding="utf-8")
        for room in ("sources/http", "httpd", "intake")
        for path in (ROOT / "ingestd" / room).glob("*.py")
    ]
    calls = r"(?:BadRequest|RefusedRequest|DeferredSubmission|Response|problem|_refuse)\(\s*([1-5]\d\d)\b"
    sent = {int(status) for text in sources for status in re.findall(calls, text)}
    assert len(sent) > 12
    assert sorted(explained[1:]) == sorted({*sent, 503} - {200})
    assert explained[0] == 200


def test_every_content_type_that_is_taken_is_named() -> None:
    named = set(re.findall(r"`(application/[a-z+-]+)`", page("docs/service.md").section("Requests")))
    assert named == set(FORMATS)


def test_what_a_reload_takes_over_is_what_the_page_says() -> None:
    assert set(_LIVE) == {"schema", "spool", "log", "admin", "ingest"}
    assert SchemaConfig.model_fields.keys() == _LIVE["schema"]
    assert [_LIVE[name] for name in ("spool", "log", "admin")] == [
        {"max_bytes", "max_parked"},
        {"level"},
        {"tokens"},
    ]
    fixed = {"listen", "allow_anonymous", "tls"} | SOURCES
    assert IngestConfig.model_fields.keys() - _LIVE["ingest"] == fixed
    text = page("docs/service.md").section("Signals")
    live = "`[schema]`, `spool.max_bytes`, `spool.max_parked`, `log.level`, `admin.tokens`"
    assert f"{live}, and of `[ingest]` all but" in text
    assert "all but `listen`, `allow_anonymous`, `tls` and the sources" in text


# --- dead letters ---


def test_the_table_of_reasons_is_the_closed_list() -> None:
    text = page("docs/dead-letters.md").section("Reasons")
    table = rows(text, "|".join(Reason))
    assert list(table) == [reason.value for reason in Reason]
    assert {name for name, cells in table.items() if cells[1].startswith("yes")} == set(RETRYABLE)
    assert "The first three count as `rejected`" in text
    assert set(list(Reason)[:3]) == REJECTED


# --- sinks and routes ---


def named(text: str) -> set[str]:
    """Words in code spans, and the keys of the examples."""
    spans = re.findall(r"`([^`\n]+)`", text)
    keys = re.findall(r"^\[?([\w.]+)(?:\]$| = )", text, re.MULTILINE)
    return {word for piece in (*spans, *keys) for word in re.findall(r"\w+", piece)}


@each("kind", SINK_TYPES)
def test_every_setting_of_a_sink_is_on_its_page_or_on_those_of_all_sinks(kind: str) -> None:
    own = page("docs/lake.md" if SINK_TYPES[kind] is LakeConfig else f"docs/sinks/{kind}.md").text
    of_all = "".join(page(f"docs/sinks/{name}.md").text for name in ("common", "credentials", "answers"))
    fields = SINK_TYPES[kind].model_fields.keys()
    assert (
        sorted(fields - HttpSinkConfig.model_fields.keys() - named(own + page("docs/sinks/common.md").text))
        == []
    )
    assert sorted(fields - named(own + of_all)) == []
    assert re.search(rf"^\| \[`{kind}`\]", page("docs/sinks/common.md").text, re.MULTILINE)


def test_every_kind_of_credentials_is_explained_with_all_its_settings() -> None:
    text = page("docs/sinks/credentials.md").text
    kinds = typing.get_args(AuthConfig.model_fields["type"].annotation)
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(kinds)
    assert sorted(AuthConfig.model_fields.keys() - {"type"} - named(text)) == []


def test_every_meaning_that_a_status_can_be_given_is_named() -> None:
    comment = re.findall(r"on_status = .* # (.*)", page("docs/sinks/answers.md").text)[0]
    assert set(re.findall(r"\w+", comment)) - {"or"} == set(typing.get_args(MeaningWord))


def test_the_mapping_of_interactions_is_told_action_by_action_and_field_by_field() -> None:
    text = page("docs/sinks/genesys_events.md").text
    actions = rows(text, "|".join(genesys_mapping._ACTIONS))
    assert actions.keys() == genesys_mapping._ACTIONS.keys()
    for name in ("TRANSFER_TYPES", "FINAL_STATES", "DISCONNECT_TYPES"):
        assert f"({', '.join(getattr(genesys_mapping, name))})" in text
    source = (ROOT / "ingestd/sinks/genesys_mapping.py").read_text(encoding="utf-8").partition('"""\n\n')[0]
    array = r"\b(\w+Events)\b"
    assert re.findall(array, source.partition("field of")[0]) != []
    for name in re.findall(array, source):
        assert f"`{name}`" in text, name


def test_the_table_of_patterns_is_right_about_each_value() -> None:
    text = page("docs/routes.md").section("Patterns")
    told = re.findall(r"^\| `(\[.*?\])` \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    assert len(told) > 12
    for pattern, *cells in told:
        compiled = routes.compile({"sink": {"x": json.loads(pattern)}})
        for cell, expected in zip(cells, (True, False), strict=True):
            for value in re.findall(r"`(.*?)`", cell):
                event = b"{}" if value == "absent" else b'{"x":%b}' % value.encode()
                assert compiled.explain(event)[0].matches is expected, (pattern, value)
    assert sorted(OPERATORS.keys() - set(re.findall(r'"([a-z-]+)":', text))) == []


def test_what_is_known_of_genesys_cloud_is_what_the_code_has() -> None:
    text = page("docs/sinks/genesys.md").text
    domains = re.findall(r"\| ([a-z]+(?:-[a-z]+)+-\d) \| ([a-z0-9.-]+\.[a-z.-]+) (?=\|)", text)
    assert dict(domains) == genesys_regions.DOMAINS
    assert all(told in text for told in genesys_models.read_from().values())
    assert f"{genesys_events.MAX_REQUEST_ENTRIES} for `…/events/…`" in text
    assert f"| {genesys_events.MAX_BODY_BYTES:,};" in text


# --- the sandbox and the control plane ---


def test_the_sandboxs_faults_and_paths_are_all_named() -> None:
    text = page("docs/sandbox.md").text
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


def test_the_table_of_fields_has_all_that_a_kind_takes() -> None:
    table = page("docs/control-plane.md").section("The file").partition("| kind | fields |")[2]
    found = rows(table, r"\w+")
    assert sorted(found) == sorted(KINDS) == sorted(TABLES)
    for kind, (cell,) in found.items():
        words = set(re.findall(r"`([a-z_]+)`", cell))
        for field in KINDS[kind].parse("x", TABLES[kind]).fields.keys() - {"name"}:
            assert field in words, (kind, field)
        with pytest.raises(UserError, match=r"bogus_field"):
            KINDS[kind].parse("x", {**TABLES[kind], "bogus_field": 1})
