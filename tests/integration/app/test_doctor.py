"""``ingestd doctor``: what only a live organization can tell, asked of a sandbox that has its faults."""

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingestd.app import bug_report
from ingestd.app.checks.configuration import check_login
from ingestd.app.checks.finding import Finding, Level
from ingestd.app.checks.installation import check_installation
from ingestd.app.checks.online import check_clock
from ingestd.app.checks.organization import check_rate
from ingestd.app.checks.run import Report, check_all
from ingestd.cli.group import cli
from ingestd.config import Login
from ingestd.config.genesys_regions import DOMAINS, hosts, region_of
from ingestd.core.answer import Answer
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.faults import parse_faults
from ingestd.sandbox.server import Running, Sandbox
from ingestd.sinks.genesys_events import GenesysEventsConfig
from ingestd.store import new_letters
from ingestd.store.connection import connect
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from tests.each import each
from tests.ports import free_port
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio
SINKS = """
[sinks.presence]
type = "genesys_events"
api = "presence"
[sinks.journey]
type = "journey_events"
configuration_id = "c"
"""


def configuration(directory: Path, api: str, token_url: str, *, more: str = SINKS) -> Path:
    file = directory / "c.toml"
    file.write_text(
        f'[api]\nurl = "{api}"\ntoken_url = "{token_url}"\nclient_id = "me"\nclient_secret = "quite-secret"\n'
        f'[state]\ndir = "{directory}/state"\n[ingest]\nlisten = "127.0.0.1:{free_port()}"\n'
        f'[admin]\nlisten = "127.0.0.1:{free_port()}"\n{more}'
    )
    return file


@asynccontextmanager
async def sandbox(*faults: str, **options: Any) -> AsyncIterator[Running]:
    given = SandboxOptions(client_id=None, client_secret=None, faults=parse_faults(faults), **options)
    async with Sandbox(given).serve() as running:
        yield running


async def examine(file: Path, *, as_doctor: bool = True) -> Report:
    report = Report()
    async for _ in check_all(report, str(file), {}, online=True, as_doctor=as_doctor, environ={}):
        pass
    return report


def at(findings: Sequence[Finding], level: Level, check: str) -> list[str]:
    return [one.text for one in findings if (one.level, one.check) == (level, check)]


async def test_a_good_organization_is_told_in_full_and_gets_no_event(tmp_path: Path) -> None:
    async with sandbox() as running:
        report = await examine(configuration(tmp_path, running.url, running.token_url))
        stats = running.sandbox.stats()
    told = report.findings
    assert report.exit_code == 0
    assert at(told, Level.OK, "organization") == ["sandbox, id 00000000-0000-4000-8000-000000000000"]
    assert at(told, Level.OK, "client") == ["sandbox, id sandbox; its roles say what it may do"]
    assert at(told, Level.OK, "permission") == [
        "presence: the client may send there (presence:userPresence:inject)",
        "journey: the client may send there (journey:externalEventsEvent:add)",
    ]
    assert "client.credentials.token.rate.per.minute 300" in at(told, Level.OK, "limits")[0]
    assert "set to 600 together (presence 300, journey 300)" in at(told, Level.WARN, "rate")[0]
    assert at(told, Level.OK, "clock")
    assert stats.events == 0
    assert sum(path.events for path in stats.paths.values()) == 0


async def test_what_is_wrong_with_it_is_told_with_what_to_do(tmp_path: Path) -> None:
    async with sandbox("no-permission:1", "skew:1:20m") as running:
        told = (await examine(configuration(tmp_path, running.url, running.token_url))).findings
    missing = at(told, Level.FAIL, "permission")
    assert "give it presence:userPresence:inject (Admin > Roles" in missing[0]
    assert "give it journey:externalEventsEvent:add" in missing[1]
    assert "give it limits:organization:view" in at(told, Level.WARN, "limits")[0]
    assert "token.rate.per.minute 300" in at(told, Level.OK, "limits")[0], "then the platform's defaults"
    assert "clock is 1200 s behind" in at(told, Level.WARN, "clock")[0]


async def test_a_client_of_another_region_is_told_as_such_by_check_too(tmp_path: Path) -> None:
    async with sandbox("token-region:1") as running:
        report = await examine(configuration(tmp_path, running.url, running.token_url), as_doctor=False)
    assert report.exit_code == 4
    assert "is its organization in another region" in at(report.findings, Level.FAIL, "token")[0]


@each(
    ("reply", "level", "words"),
    [
        (Reply(200, {"Content-Type": "text/html"}, b"<html>"), Level.FAIL, "or a sign-in page?"),
        (Reply(404, body=b"{}"), Level.FAIL, "there is no such API or configuration"),
        (Reply(429, body=b"{}"), Level.WARN, "it is not certain"),
        (Reply(503, body=b'{"message": "down"}'), Level.WARN, "503 (down), so it is not certain"),
        (Reply(400, {"Content-Type": "application/json"}, b"{}"), Level.OK, "may send there"),
    ],
)
async def test_an_answer_to_an_empty_request(tmp_path: Path, reply: Reply, level: Level, words: str) -> None:
    def answer(request: Request) -> Reply:
        if request.path == "/token":
            return Reply(body=b'{"access_token": "a-token-of-many", "expires_in": 60}')
        if request.method == "HEAD":
            return Reply(body=b"")
        if request.path.endswith("/organizations/me"):
            return Reply(body=b'{"id": "o", "name": "Org", "state": "inactive"}')
        if request.path.endswith("/tokens/me"):
            return Reply(body=b'{"organization": {"id": "other"}, "OAuthClient": {"id": "c", "name": "C"}}')
        return reply

    async with Receiver(answer) as receiver:
        more = '[sinks.presence]\ntype = "genesys_events"\napi = "presence"\n'
        file = configuration(tmp_path, receiver.url, f"{receiver.url}/token", more=more)
        told = (await examine(file)).findings
    assert words in at(told, level, "permission")[0]
    assert at(told, Level.FAIL, "organization")[0].startswith("Org, id o is inactive")
    assert "acts in another one" in at(told, Level.WARN, "client")[0]
    assert at(told, Level.WARN, "limits")[0].startswith("platform.api: not known")


@each(
    ("date", "level"),
    [
        ("Thu, 01 Jan 1970 00:16:40 GMT", [Level.OK]),
        ("Thu, 01 Jan 1970 00:17:05 GMT", [Level.OK]),
        ("Thu, 01 Jan 1970 00:17:15 GMT", [Level.WARN]),
        ("Thu, 01 Jan 1970 00:15:00 GMT", [Level.WARN]),
        ("yesterday", []),
        ("", []),
    ],
)
def test_the_clock_by_the_date_of_an_answer(date: str, level: list[Level]) -> None:
    found = check_clock(Answer(200, {"date": date}, seconds=1.0), "h", now_s=1000.5)
    assert [finding.level for finding in found] == level


def test_hosts_of_two_regions_do_not_go_together() -> None:
    assert {region_of(hosts(name).api_base) for name in DOMAINS} == set(DOMAINS)
    assert {region_of(url) for url in ("http://127.0.0.1", "https://notmypurecloud.de", "http://[")} == {""}
    login = Login(api="https://api.mypurecloud.de", token_url="https://login.mypurecloud.ie/oauth/token")
    (finding,) = check_login(login)
    assert finding.level is Level.FAIL
    assert "(region eu-central-1)" in finding.text
    assert "(region eu-west-1)" in finding.text


def test_a_rate_that_several_share() -> None:
    sinks = {"a": GenesysEventsConfig(type="genesys_events"), "b": GenesysEventsConfig(type="genesys_events")}
    assert [finding.level for finding in check_rate(sinks, 599)] == [Level.WARN]
    assert [finding.level for finding in check_rate(sinks, 600)] == [Level.OK]
    assert list(check_rate({}, 300)) == []


def test_the_installation_names_its_versions_and_extras() -> None:
    told = [f"{finding.check} {finding.text}" for finding in check_installation()]
    assert told[0].startswith("version ingestd ")
    assert f"version SQLite {sqlite3.sqlite_version}" in told
    assert any(text.startswith("extras aws: botocore") for text in told)
    assert not any("pytest" in text for text in told)


async def test_a_bug_report_has_what_happened_and_no_payload(tmp_path: Path) -> None:
    payload = b'{"message":"no such name: \\"PAYLOAD\\""}'
    file = configuration(tmp_path, "http://127.0.0.1:9", "http://127.0.0.1:9/t")
    state = tmp_path / "state"
    state.mkdir()
    store = connect(state / "state.db")
    letters = [DeadLetter(payload, Reason.REFUSED, f"422 {payload!r}", 1, at, at) for at in range(3)]
    new_letters.insert_letters(store, letters, 0.0)
    store.commit()
    store.close()
    audit = AuditLog(state / "audit.jsonl")
    audit(AuditEntry.BATCH_SUBMITTED, sink="s", request_id="r")
    audit(AuditEntry.DEAD_LETTERED, sink="s", error=f"422 event 1: {payload.decode()}", count=3)
    audit.close()
    log = tmp_path / "log.txt"
    log.write_text(
        f"t INFO fine\nt WARNING s: 503 {payload.decode()}\n"
        + json.dumps({"level": "error", "message": f"m {payload.decode()}"})
    )
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    report = await bug_report.collect([], str(file), {}, log_file=str(log), clock=SystemClock(), environ={})
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before
    assert report["state"]["letters"] == [{"sink": "", "state": "waiting", "reason": "refused", "count": 3}]
    assert report["state"]["files"]["state.db"] > 1000
    (line,) = report["audit"]["lines"]
    assert (line["event"], line["error"], line["count"]) == (
        "DEAD_LETTERED",
        "422 event #: message: no such name: #",
        3,
    )
    assert report["log"][0] == "t WARNING s: 503 message: no such name: #"
    assert json.loads(report["log"][1]) == {"level": "error", "message": "m message: no such name: #"}
    assert report["configuration"]["settings"]["api"]["client_secret"] == "***"
    assert "Connection refused" in report["status"]["error"]
    assert "PAYLOAD" not in json.dumps(report)
    bug_report.write(tmp_path / "r.json", report)
    assert (tmp_path / "r.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UserError, match="cannot write the bug report"):
        bug_report.write(tmp_path / "r.json", report)


def test_a_bug_report_of_a_configuration_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[batch]\nmax_evnts = 1\n")
    given = ["--config", f"{tmp_path}/c.toml", "--bundle", f"{tmp_path}/r.json"]
    done = CliRunner().invoke(cli, ["doctor", *given], catch_exceptions=False)
    assert done.exit_code == 2
    assert "not asked: --online logs in and asks the organization" in done.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert "there is no setting batch.max_evnts" in report["configuration"]["error"]
    assert report["checks"][-1]["level"] == "FAIL"
    done = CliRunner().invoke(cli, ["doctor", "--json", "--log", "x"])
    assert done.exit_code == 2
    assert "--log goes with --bundle" in done.output
