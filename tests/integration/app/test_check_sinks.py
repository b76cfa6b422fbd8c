"""``ingestd check`` of [sinks]: each is made as the service would make it, and nothing is sent."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ingestd.app.checks import sinks as sink_checks
from ingestd.app.checks.finding import Level
from ingestd.app.checks.run import Report, check_all
from tests.each import each
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio

SECRET_URL = "https://hooks.example.com/api/v2/integrations/webhooks/CANARY-token/events"


async def check(directory: Path, sinks: str, *, online: bool = False, **api: str) -> Report:
    """With a configuration that is sound but for what ``sinks`` has."""
    file = directory / "ingestd.toml"
    file.touch(mode=0o600)
    given = "".join(f"{name} = '{value}'\n" for name, value in api.items())
    file.write_text(
        f"[state]\ndir = '{directory}/state'\n[spool]\nmax_bytes = '17MiB'\n[admin]\nlisten = '127.0.0.1:0'\n"
        f"[ingest]\nlisten = '127.0.0.1:0'\n[api]\n{given}{sinks}"
    )
    report = Report()
    async for finding in check_all(report, str(file), {}, online=online, environ={}):
        assert "CANARY" not in finding.text
    return report


def of_sinks(report: Report, level: Level) -> list[str]:
    return [one.text for one in report.findings if one.level is level and one.check in ("sinks", "routes")]


def webhook(more: str = "", *, url: str = "https://example.com/in") -> str:
    return f"[sinks.crm]\ntype = 'webhook'\nurl = '{url}'\n{more}\n"


async def test_sound_sinks_are_told_with_where_they_go_and_how_they_log_in(tmp_path: Path) -> None:
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("CANARY-token-1")
    report = await check(
        tmp_path,
        webhook("when = {kind = ['order']}", url=SECRET_URL)
        + f"[sinks.any]\ntype = 'cloudevents'\nurl = 'https://ce.example.com'\n"
        f"auth = {{type = 'bearer', token_file = '{tmp_path}/token'}}\n"
        f"[sinks.files]\ntype = 'lake'\nurl = 'file://{tmp_path}/lake/deep'\n",
    )
    assert of_sinks(report, Level.OK) == [
        "sinks.crm.when: the pattern can be used",
        "crm (webhook): https://hooks.example.com/***, without credentials",
        "any (cloudevents): https://ce.example.com, auth bearer",
        f"files (lake): {tmp_path}/lake/deep can be made",
    ]
    assert (report.exit_code, sorted(os.listdir(tmp_path))) == (0, ["ingestd.toml", "token"])


@each(
    ("sink", "said"),
    [
        (webhook("when = {kind = 'order'}"), "sinks.crm.when: kind: "),
        (webhook("when = {kind = [{prefx = 'a'}]}"), "did you mean 'prefix'?"),
        (webhook(url="CANARY.example.com/in"), "sinks.crm.url: it must begin with https://"),
        (webhook("headers = {Host = 'CANARY'}"), "sinks.crm: the header Host is set by the program itself"),
        (webhook("order_by = 'a..b'"), "sinks.crm.order_by: 'a..b' is not a path"),
        (webhook("auth = {type = 'bearer'}"), "sinks.crm.auth: give token or token_file"),
        (webhook("auth = {type = 'bearer', token_file = '/nowhere'}"), "cannot read token from /nowhere"),
        (webhook("auth = {type = 'oauth2', client_id = 'me'}"), "sinks.crm.auth: oauth2: give client_id"),
        (webhook("auth = {type = 'standard_webhooks', secret = 'CANARY'}"), "sinks.crm.auth: "),
        (
            webhook("handshake_origin = 'http://me'"),
            "sinks.crm: handshake_origin 'http://me': expected a name",
        ),
        ("[sinks.crm]\ntype = 'webhook'\nurl_file = '/nowhere'", "sinks.crm.url_file /nowhere: "),
        ("[sinks.a]\ntype = 'eventbridge'\naws_region = 'no region'", "sinks.a: "),
    ],
)
async def test_a_sink_that_cannot_work_fails_with_its_name(tmp_path: Path, sink: str, said: str) -> None:
    report = await check(tmp_path, sink)
    (failed,) = of_sinks(report, Level.FAIL)
    assert said in failed
    assert report.exit_code == 2


async def test_one_wrong_sink_does_not_hide_another(tmp_path: Path) -> None:
    sinks = webhook("order_by = 'a..b'") + "[sinks.b]\ntype = 'webhook'\nurl = 'ftp://e.com'\n"
    assert [text[:8] for text in of_sinks(await check(tmp_path, sinks), Level.FAIL)] == [
        "sinks.cr",
        "sinks.b.",
    ]


async def test_what_goes_to_a_sink_in_the_open_is_warned_of_but_not_on_loopback(tmp_path: Path) -> None:
    report = await check(tmp_path, webhook("headers = {X-Key = 'CANARY'}", url="http://example.com/in"))
    assert of_sinks(report, Level.WARN) == [
        "crm: events and credentials go to http://example.com/in unencrypted: use https"
    ]
    assert of_sinks(await check(tmp_path, webhook(url="http://127.0.0.1:9/in")), Level.WARN) == []


@pytest.mark.parametrize(
    ("lake", "said"),
    [
        ("url = 'file:///proc/lake'", "files (lake): cannot write in /proc: "),
        ("url = 'http://example.com'", "sinks.files.url: expected a folder"),
        (
            "url = '/tmp'\ncallback_url = 'example.com'",
            "sinks.files.callback_url: it must begin with https://",
        ),
        ("url = 's3://bucket'", "sinks.files: which AWS region? set aws_region"),
    ],
)
async def test_a_lake_that_cannot_be_written_fails(
    tmp_path: Path, lake: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    sinks = f"[sinks.files]\ntype = 'lake'\n{lake}\n" + webhook()
    (failed,) = of_sinks(await check(tmp_path, sinks), Level.FAIL)
    assert said in failed


async def test_a_missing_extra_is_said_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_checks, "find_spec", lambda name: None)
    sinks = f"[sinks.files]\ntype = 'lake'\nurl = '{tmp_path}'\nformat = 'parquet'\n" + webhook()
    (failed,) = of_sinks(await check(tmp_path, sinks), Level.FAIL)
    assert "pip install 'ingestd[lake]'" in failed


async def test_every_secret_of_a_sink_that_everybody_can_read_is_warned_of(tmp_path: Path) -> None:
    for name in ("url", "password"):
        (tmp_path / name).write_text("https://example.com/CANARY")
        (tmp_path / name).chmod(0o644)
    sinks = (
        f"[sinks.a]\ntype = 'webhook'\nurl_file = '{tmp_path}/url'\n"
        f"auth = {{type = 'basic', username = 'me', password_file = '{tmp_path}/password'}}\n"
        + webhook(
            "headers = {X-Key = 'CANARY-1'}\nauth = {type = 'bearer', token = 'CANARY-2'}", url=SECRET_URL
        )
    )
    (tmp_path / "ingestd.toml").touch()
    (tmp_path / "ingestd.toml").chmod(0o644)
    report = await check(tmp_path, sinks)
    texts = [one.text for one in report.findings if one.check == "secret files"]
    warned = [text.rpartition("(")[2].partition(")")[0] for text in texts]
    assert warned == [
        *("sinks.a.auth.password_file", "sinks.a.url_file"),
        *("sinks.crm.url", "sinks.crm.headers.X-Key", "sinks.crm.auth.token"),
    ]


async def test_every_host_is_asked_for_a_sign_of_life_and_no_event_nor_secret_goes_there(
    tmp_path: Path,
) -> None:
    def answer(request: Request) -> Reply:
        return Reply(
            body=b'{"access_token": "CANARY", "expires_in": 60}' if request.path == "/token" else b""
        )

    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    async with Receiver(answer) as api, Receiver(answer) as hooks:
        sinks = (
            f"[sinks.b]\ntype = 'webhook'\nurl = '{hooks.url}/b'\n"
            f"auth = {{type = 'oauth2', token_url = '{hooks.url}/token', client_id = 'me',"
            " client_secret = 'x'}\n"
            f"[sinks.c]\ntype = 'cloudevents'\n[sinks.d]\ntype = 'webhook'\nurl = '{nobody}/d'\n"
        )
        sinks += webhook(url=f"{hooks.url}/webhooks/CANARY/events")
        login = {"url": api.url, "token_url": f"{api.url}/token", "client_id": "me", "client_secret": "x"}
        report = await check(tmp_path, sinks, online=True, **login)
    assert [(r.method, r.path) for r in api.requests] == [
        ("POST", "/token"),
        ("HEAD", "/api/v2/tokens/me"),
    ]
    assert [(r.method, r.path) for r in hooks.requests] == [("POST", "/token"), ("HEAD", "/")]
    found: dict[str, Any] = {one.check: one for one in report.findings}
    assert "answers (200)" in found["b, crm"].text
    assert (found["d"].level, report.exit_code) == (Level.FAIL, 4)
    assert "Connection refused" in found["d"].text


async def test_without_a_complete_login_the_sinks_with_a_host_of_their_own_are_still_looked_at(
    tmp_path: Path,
) -> None:
    async with Receiver() as hooks:
        report = await check(
            tmp_path, webhook(url=f"{hooks.url}/in") + "[sinks.c]\ntype = 'cloudevents'\n", online=True
        )
    assert [request.method for request in hooks.requests] == ["HEAD"]
    assert [
        text for text in of_sinks(report, Level.FAIL) if "sinks.c has no destination: give it a url" in text
    ]


@pytest.mark.anyio
async def test_a_path_into_an_event_that_the_schema_does_not_know_is_warned_of(tmp_path: Path) -> None:
    sinks = webhook(url="http://127.0.0.1:1/") + (
        '[sinks.c]\ntype = "cloudevents"\nurl = "http://127.0.0.1:1/"\nwrap.type = "t"\nwrap.source = "s"\n'
        'wrap.id = "/interactionID"\nwrap.time = "$.eventTime"\nwrap.data = "eventType.x"\n'
        'answers.id = "any"\n'
    )
    warned = [one.text for one in (await check(tmp_path, sinks)).findings if one.level is Level.WARN]
    assert any("sinks.c.wrap.id: the interaction schema does not know interactionID" in one for one in warned)
    assert any("sinks.c.wrap.data: no interaction has eventType.x" in one for one in warned)
    assert not any("wrap.time" in one or "answers" in one for one in warned)
