"""``ingestd check`` says which proxy is used, and where one of the environment is not."""

from pathlib import Path

import pytest

from ingestd.app.checks.finding import Level
from tests.integration.app.test_check_sinks import check, webhook

pytestmark = pytest.mark.anyio

ONE = webhook(url="https://example.com/in") + "[sinks.inside]\ntype = 'webhook'\nurl = 'http://10.1.2.3/in'\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def said(directory: Path, api: str = "") -> list[str]:
    report = await check(directory, f"trust_env = {api}\n{ONE}" if api else ONE)
    return [one.text for one in report.findings if one.check == "proxy" and one.level is not Level.FAIL]


async def test_nothing_is_said_where_there_is_none(tmp_path: Path) -> None:
    assert await said(tmp_path) == []


async def test_one_that_is_not_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:CANARY@proxy.test:3128")
    (words,) = await said(tmp_path)
    assert words == "HTTPS_PROXY of the environment is not used: api.trust_env = true would"


async def test_each_host_is_told_with_its_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://user:CANARY@proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    assert await said(tmp_path, "true") == [
        "10.1.2.3: without a proxy",
        "example.com: through http://***@proxy.test:3128",
    ]


async def test_a_proxy_that_cannot_be_used_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.test:1080")
    report = await check(tmp_path, f"trust_env = true\n{ONE}")
    (finding,) = [one for one in report.findings if one.check == "proxy"]
    assert (finding.level, report.exit_code) == (Level.FAIL, 2)
    assert "type socks5" in finding.text
