"""``ingestd check`` and ``ingestd config``: real files, ports, locks, certificates and a real API."""

import json
import os
import shutil
import socket
import sqlite3
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingestd.app.checks import listening, state
from ingestd.app.checks.finding import Finding, Level
from ingestd.app.checks.run import Report, check_all
from ingestd.cli.group import cli
from ingestd.config import SpoolConfig, TlsConfig
from ingestd.core.clock import SystemClock
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.server import Sandbox
from ingestd.store.connection import VERSION, StoreFailed, connect
from ingestd.store.database import Database
from ingestd.store.lock import DirectoryLock
from tests.certificates import self_signed
from tests.each import each
from tests.ports import free_port
from tests.receiver import Hang, Receiver, Reply, Request

DAY_S = 86400
LOGIN = {"GENESYS_CLIENT_ID": "me", "GENESYS_CLIENT_SECRET": "CANARY-secret"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration that passes: no login, ports and state of its own."""
    path = tmp_path / "ingestd.toml"
    path.write_text(
        '[api]\nurl = "http://127.0.0.1:1"\nno_auth = true\n'
        f'[state]\ndir = "{tmp_path}/state"\n[spool]\nmax_bytes = "17MiB"\n'
        f'[admin]\nlisten = "127.0.0.1:{free_port()}"\n[ingest]\nlisten = "127.0.0.1:{free_port()}"\n'
    )
    return path


async def findings(file: Path | None, environ: dict[str, str] | None = None, **given: Any) -> Report:
    report = Report()
    async for finding in check_all(
        report,
        str(file) if file else None,
        given.get("overrides", {}),
        online=given.get("online", False),
        environ=environ or {},
    ):
        assert "\n" not in finding.text
        assert "CANARY" not in finding.text
    return report


def at(report: Report, level: Level) -> list[tuple[str, str]]:
    return [(one.check, one.text) for one in report.findings if one.level is level]


def add(file: Path, text: str) -> Path:
    """``text`` goes behind [ingest], the last table of the file."""
    file.write_text(file.read_text() + text)
    return file


# --- settings ---


@pytest.mark.anyio
async def test_a_sound_configuration_passes_and_nothing_is_left_behind(file: Path, tmp_path: Path) -> None:
    report = await findings(file)
    assert report.exit_code == 0
    assert at(report, Level.FAIL) == []
    assert {one.check for one in report.findings} >= {
        *("configuration", "access", "login", "schema", "keys", "state directory", "disk", "fsync", "ports")
    }
    assert os.listdir(tmp_path) == [file.name]


@pytest.mark.anyio
async def test_a_configuration_that_does_not_load_is_the_only_finding(file: Path) -> None:
    report = await findings(add(file, "max_evnts = 3\n"))
    ((check, text),) = at(report, Level.FAIL)
    assert (check, len(report.findings), report.exit_code) == ("configuration", 1, 2)
    assert "there is no setting ingest.max_evnts; did you mean max_events?" in text


@pytest.mark.anyio
async def test_each_setting_that_cannot_work_fails_with_its_name(file: Path, tmp_path: Path) -> None:
    add(file, '[schema]\nname = "interactoin"\n[delivery]\norder_by = "a..b"\n')
    overrides = {("ingest", "listen"): f"0.0.0.0:{free_port()}", ("api", "no_auth"): False}
    report = await findings(file, overrides=overrides)
    failed = dict(at(report, Level.FAIL))
    assert report.exit_code == 2
    assert "is open to others: configure [ingest.producers.NAME]" in failed["access"]
    assert "did you mean interaction?" in failed["schema"]
    assert "No token URL is set" in failed["login"]
    report = await findings(file, overrides={("schema", "name"): "cloudevent"})
    assert "delivery.order_by: 'a..b' is not a path" in dict(at(report, Level.FAIL))["keys"]


@pytest.mark.anyio
async def test_a_key_that_events_of_the_schema_lack_is_told(file: Path) -> None:
    unknown = {("delivery", "order_by"): "conversationId"}
    report = await findings(file, overrides=unknown)
    assert report.exit_code == 0
    told = dict(at(report, Level.WARN))["keys"]
    assert told.startswith(
        "delivery.order_by: the interaction schema does not know conversationId: did you mean"
    )
    impossible = {("schema", "name"): "cloudevent", ("schema", "dedup_key"): "$.orderId"}
    report = await findings(file, overrides=impossible)
    assert report.exit_code == 2
    assert "schema.dedup_key: no CloudEvent has orderId" in dict(at(report, Level.FAIL))["keys"]
    report = await findings(file, overrides={("delivery", "order_by"): "/interactionId"})
    assert ("keys", "delivery.order_by /interactionId") in at(report, Level.OK)


@pytest.mark.anyio
async def test_without_any_configuration_the_rest_is_looked_at_all_the_same(tmp_path: Path) -> None:
    report = await findings(
        None, {"XDG_STATE_HOME": str(tmp_path)}, overrides={("admin", "listen"): "[::1]:0"}
    )
    assert dict(at(report, Level.FAIL))["login"].startswith("No API is set")
    assert ("state directory", f"{tmp_path}/ingestd can be made") in at(report, Level.OK)


@pytest.mark.anyio
async def test_what_travels_in_the_open_is_warned_of(file: Path) -> None:
    overrides = {("api", "url"): "http://me:CANARY@api.example.com", ("api", "no_auth"): False}
    overrides[("api", "token_url")] = "http://login.example.com/token"
    warned = at(await findings(file, LOGIN, overrides=overrides), Level.WARN)
    assert sum("unencrypted: use https" in text for check, text in warned if check == "login") == 2


@pytest.mark.anyio
async def test_doubts_and_variables_that_set_nothing_are_warned_of(file: Path) -> None:
    report = await findings(file, {"INGESTD_BATCH_MAXBYTES": "1", "INGESTD_SPOOL_MAX_BYTES": "2MiB"})
    warned = [text for check, text in at(report, Level.WARN) if check == "configuration"]
    assert any("did you mean INGESTD_BATCH_MAX_BYTES?" in text for text in warned)
    assert any("spool.max_bytes (2097152) is under ingest.max_body" in text for text in warned)


@pytest.mark.anyio
async def test_files_with_secrets_must_be_readable_and_should_not_be_by_everybody(
    file: Path, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    add(file, f'[ingest.producers.crm]\ntoken_file = "{tokens}"\n')
    failed = at(await findings(file), Level.FAIL)
    assert failed == [
        ("producers", f"producer crm: cannot read the token from {tokens}: No such file or directory")
    ]
    tokens.touch(mode=0o600)
    assert "holds no token" in dict(at(await findings(file), Level.FAIL))["producers"]
    tokens.write_text("CANARY-token-0123456789abcdef0123456789abcdef\n")
    assert dict(at(await findings(file), Level.OK))["producers"] == "crm (1 token)"
    assert "secret files" in dict(at(await findings(file), Level.OK))
    tokens.chmod(0o644)
    assert "everybody on this machine can read" in dict(at(await findings(file), Level.WARN))["secret files"]


@pytest.mark.anyio
async def test_a_secret_in_a_configuration_that_everybody_can_read_is_warned_of(file: Path) -> None:
    os.chmod(file, 0o644)
    report = await findings(
        add(file, '[ingest.producers.crm]\ntoken = "CANARY-0123456789abcdef0123456789"\n')
    )
    assert dict(at(report, Level.WARN))["secret files"] == (
        f"everybody on this machine can read {file} (ingest.producers.crm.token): chmod o-r it"
    )


# --- the state directory ---


def damage(state: Path, how: str) -> None:
    database = state / "state.db"
    if how == "noise":
        database.write_bytes(os.urandom(8192))
    elif how == "half":
        database.write_bytes(database.read_bytes()[: database.stat().st_size // 2])
    else:
        with closing(sqlite3.connect(database)) as connection, connection:
            if how == "newer":
                connection.execute("PRAGMA user_version = 99")
            else:
                connection.executescript("PRAGMA user_version = 0")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("newer", "was written by a newer ingestd (format 99, this one knows"),
        ("noise", "is damaged"),
        ("half", "is damaged"),
        ("another program's", "is a database of another program: move it away"),
    ],
)
async def test_a_state_file_that_a_start_would_refuse_fails_with_its_words(
    file: Path, tmp_path: Path, how: str, said: str
) -> None:
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    connect(state / "state.db").close()
    assert ("state file", f"format {VERSION}") in at(await findings(file), Level.OK)
    damage(state, how)
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    failed = at(await findings(file), Level.FAIL)
    assert [name for name, _ in failed] == ["state file"]
    assert said in failed[0][1]
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before
    database = Database(state)
    with pytest.raises(StoreFailed) as refused:
        await database.open()
    await database.close()
    if how != "another program's":
        assert str(refused.value).partition("(")[0] == failed[0][1].partition("(")[0]


@pytest.mark.anyio
async def test_a_state_file_in_use_is_looked_at_without_harm(file: Path, tmp_path: Path) -> None:
    database = Database(tmp_path / "state")
    (tmp_path / "state").mkdir(exist_ok=True)
    await database.open()
    await database.run(lambda c: c.execute("INSERT INTO meta VALUES ('one', 'x')"))
    assert ("state file", f"format {VERSION}") in at(await findings(file), Level.OK)
    await database.run(lambda c: c.execute("INSERT INTO meta VALUES ('two', 'x')"))
    await database.close()


@pytest.mark.anyio
async def test_a_directory_and_ports_that_the_service_itself_holds_are_a_warning(
    file: Path, tmp_path: Path
) -> None:
    lock = DirectoryLock(tmp_path / "state")
    try:
        failed = at(await findings(file), Level.FAIL)
        assert failed == [
            ("state directory", f"in use by process {os.getpid()}: wait for it, or choose another state.dir")
        ]
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            listens = {
                ("ingest", "listen"): f"127.0.0.1:{one.getsockname()[1]}",
                ("admin", "listen"): f"127.0.0.1:{other.getsockname()[1]}",
            }
            report = await findings(file, overrides=listens)
            assert report.exit_code == 0
            assert f"process {os.getpid()}" in dict(at(report, Level.WARN))["running"]
    finally:
        lock.release()
    assert (await findings(file)).exit_code == 0


@pytest.mark.anyio
async def test_a_taken_port_fails(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        report = await findings(file, overrides={("admin", "listen"): listen})
    assert at(report, Level.FAIL) == [
        ("ports", f"admin.listen {listen} is in use by another process: stop it, or choose another port")
    ]
    report = await findings(
        file, overrides={("ingest", "listen"): "192.0.2.1:0", ("ingest", "allow_anonymous"): True}
    )
    assert "cannot listen there: EADDRNOTAVAIL" in dict(at(report, Level.FAIL))["ports"]


def test_a_file_in_the_way_of_the_state_directory_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = state.check_state(tmp_path / "file" / "state", SpoolConfig(), ["api"], SystemClock())
    assert finding.level is Level.FAIL
    assert "is not a directory" in finding.text


def test_a_directory_that_cannot_be_written_fails() -> None:
    (finding,) = state.check_state(Path("/proc/1"), SpoolConfig(), ["api"], SystemClock())
    assert finding.level is Level.FAIL
    assert finding.text.startswith("cannot write in /proc/1: ")


def test_room_is_compared_with_what_the_spool_may_become(tmp_path: Path) -> None:
    def disk(spool: SpoolConfig) -> Finding:
        return next(
            one for one in state.check_state(tmp_path, spool, ["api"], SystemClock()) if one.check == "disk"
        )

    free = shutil.disk_usage(tmp_path).free
    assert disk(SpoolConfig(max_bytes=2**20, ballast=0)).level is Level.OK
    assert disk(SpoolConfig(max_bytes=2 * free)).level is Level.WARN
    assert disk(SpoolConfig(ballast=2 * free)).level is Level.FAIL


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    real = os.path.realpath(tmp_path)
    (tmp_path / "a b" / "c").mkdir(parents=True)
    mounts = (
        f"rootfs / rootfs rw\nhost:/x {real}/a\\040b nfs4 rw\n{real}\nx {real}/a xfs rw\n/dev/a / ext4 rw\n"
    )
    assert state.file_system_of(tmp_path, mounts) == "ext4"
    assert state.file_system_of(tmp_path / "a b" / "c", mounts) == "nfs4"
    assert state.file_system_of(tmp_path, "") == ""


@each("kind", ["nfs4", "cifs", "fuse.sshfs", "tmpfs", "overlay"])
def test_a_file_system_that_is_far_away_or_forgets_is_warned_of(tmp_path: Path, kind: str) -> None:
    (finding,) = state.check_file_system(tmp_path, f"x / {kind} rw\n")
    assert (finding.level, kind in finding.text) == (Level.WARN, True)
    (finding,) = state.check_file_system(tmp_path, "x / xfs rw\n")
    assert finding.level is Level.OK


def test_a_slow_disk_is_warned_of() -> None:
    assert state.check_fsync(0.019).level is Level.OK
    assert state.check_fsync(0.021) == (
        Level.WARN,
        "fsync",
        "21.0 ms (median of 10): every answer to a producer waits for one; use a faster disk",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everything")
def test_files_of_another_user_in_the_state_directory_fail(tmp_path: Path) -> None:
    (tmp_path / "lock").touch(mode=0o400)
    (finding,) = state.check_state(tmp_path, SpoolConfig(), ["api"], SystemClock())
    assert finding.level is Level.FAIL
    assert "lock cannot be written by this user" in finding.text


# --- TLS ---


def certify(directory: Path, **options: Any) -> TlsConfig:
    certificate, key = self_signed(directory, **options)
    return TlsConfig(cert_file=certificate, key_file=key)


def test_a_certificate_is_told_with_the_day_of_its_end(tmp_path: Path) -> None:
    tls = certify(tmp_path, days=100)
    now_s = os.stat(tls.cert_file).st_mtime

    def look(at_s: float) -> tuple[Level, str]:
        (finding,) = listening.check_tls(tls, now_s=at_s)
        return finding.level, finding.text.removeprefix(tls.cert_file)

    level, text = look(now_s)
    day = text.removeprefix(" is valid until ")
    assert (level, len(day)) == (Level.OK, 10)
    assert look(now_s + 90 * DAY_S) == (Level.WARN, f" expires on {day}, in 10 days: renew it")
    assert look(now_s + 101 * DAY_S) == (Level.FAIL, f" expired on {day}: renew it")
    assert look(now_s - DAY_S) == (Level.FAIL, " is not valid yet: look at the clock of this machine")


def test_a_certificate_that_has_really_expired_is_told_as_such(tmp_path: Path) -> None:
    tls = certify(tmp_path, days=-1)
    (finding,) = listening.check_tls(tls, now_s=SystemClock.wall())
    assert finding.level is Level.FAIL
    assert " expired on " in finding.text


def test_certificate_and_key_that_do_not_serve_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    one, other = certify(tmp_path / "tls", days=30), certify(tmp_path / "tls", days=30)
    client = certify(tmp_path / "tls", days=30, for_clients=True)
    locked, garbage = certify(tmp_path / "tls", passphrase="CANARY"), tmp_path / "garbage"
    garbage.write_text("CANARY")

    def said(**given: str) -> str:
        finding = list(
            listening.check_tls(TlsConfig(**(one.model_dump() | given)), now_s=SystemClock.wall())
        )[-1]
        assert finding.level is Level.FAIL
        assert "CANARY" not in finding.text
        return finding.text

    assert "is not the key of" in said(key_file=other.key_file)
    assert "the key without a passphrase" in said(cert_file=locked.cert_file, key_file=locked.key_file)
    assert "PEM expected" in said(cert_file=str(garbage))
    assert said(key_file="/nowhere") == "ingest.tls.key_file: cannot read /nowhere: No such file or directory"
    assert "does not serve as a server's certificate" in said(
        cert_file=client.cert_file, key_file=client.key_file
    )
    assert "there is no certificate in" in said(client_ca_file=str(garbage))
    good = list(
        listening.check_tls(
            one.model_copy(update={"client_ca_file": other.cert_file}), now_s=SystemClock.wall()
        )
    )
    assert [finding.level for finding in good] == [Level.OK, Level.OK]
    assert good[-1].text == f"every client needs a certificate signed by {other.cert_file}, with a token, too"


# --- online ---


def online_settings(api: str, **more: Any) -> dict[tuple[str, str], Any]:
    url = {("api", "url"): api, ("api", "token_url"): f"{api}/token", ("api", "no_auth"): False}
    return url | {("api", name): value for name, value in more.items()}


def token_or(reply: Reply) -> Callable[[Request], Reply]:
    token = Reply(body=b'{"access_token": "CANARY-token", "expires_in": 60}')
    return lambda request: token if request.path == "/token" else reply


HTML = {"Content-Type": "text/html; charset=utf-8"}
GENESYS = '[sinks.ex]\ntype = "genesys_events"\n'


@pytest.mark.anyio
@each(
    ("reply", "level", "words"),
    [
        (Reply(200, body=b""), Level.OK, "it knows the token"),
        (Reply(204, {"Content-Type": ""}, b""), Level.OK, "it knows the token"),
        (Reply(200, HTML, b""), Level.FAIL, "200 with text/html: is this the API, or a sign-in page?"),
        (Reply(302, HTML, b""), Level.FAIL, "302 with text/html: is this the API, or a sign-in page?"),
        (Reply(401, body=b""), Level.FAIL, "/token: are both of one region?"),
        (Reply(404, body=b""), Level.WARN, "it is not certain that it takes the token"),
        (Reply(503, body=b""), Level.WARN, "a fault of its own"),
    ],
)
async def test_the_api_is_asked_whether_it_knows_the_token_and_no_event_is_sent(
    file: Path, reply: Reply, level: Level, words: str
) -> None:
    async with Receiver(token_or(reply)) as receiver:
        report = await findings(file, LOGIN, online=True, overrides=online_settings(receiver.url))
    assert report.exit_code == (4 if level is Level.FAIL else 0)
    assert words in dict(at(report, level))["api"]
    assert "gave one in" in dict(at(report, Level.OK))["token"]
    asked = [(request.method, request.path) for request in receiver.requests]
    assert asked == [("POST", "/token"), ("HEAD", "/api/v2/tokens/me")]
    assert receiver.requests[1].headers["authorization"] == "Bearer CANARY-token"


@pytest.mark.anyio
@pytest.mark.parametrize("status", [404, 405])
async def test_what_does_not_know_tokens_is_not_genesys_cloud(file: Path, status: int) -> None:
    async with Receiver(token_or(Reply(status, body=b""))) as receiver:
        settings = online_settings(receiver.url)
        report = await findings(add(file, GENESYS), LOGIN, online=True, overrides=settings)
    assert "is this Genesys Cloud's API" in dict(at(report, Level.FAIL))["api"]


@pytest.mark.anyio
async def test_the_sandbox_knows_the_tokens_that_it_gave(file: Path) -> None:
    async with Sandbox(SandboxOptions(client_id=None, client_secret=None)).serve() as running:
        settings = {**online_settings(running.url), ("api", "token_url"): running.token_url}
        report = await findings(add(file, GENESYS), LOGIN, online=True, overrides=settings)
    assert "it knows the token" in dict(at(report, Level.OK))["api"]


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_login_that_is_refused_fails_with_four(file: Path, status: int) -> None:
    refusal = Reply(status, body=b'{"error": "invalid_client", "error_description": "CANARY"}')
    async with Receiver(lambda request: refusal if request.path == "/token" else Reply(body=b"")) as receiver:
        report = await findings(file, LOGIN, online=True, overrides=online_settings(receiver.url))
    ((check, text),) = at(report, Level.FAIL)
    assert (check, report.exit_code) == ("token", 4)
    assert text.endswith(f"refuses the login of client id me…: {status} invalid_client")


@pytest.mark.anyio
async def test_nobody_there_is_four_and_two_if_something_here_fails_too(file: Path) -> None:
    nowhere = {("api", "url"): f"http://127.0.0.1:{free_port()}"}
    report = await findings(file, online=True, overrides=nowhere)
    assert report.exit_code == 4
    assert "cannot connect: Connection refused" in dict(at(report, Level.FAIL))["api"]
    report = await findings(file, online=True, overrides={**nowhere, ("schema", "dedup_key"): "a..b"})
    assert report.exit_code == 2


@pytest.mark.anyio
async def test_an_api_that_never_answers_fails_in_time(file: Path) -> None:
    async with Receiver(lambda request: Hang()) as receiver:
        overrides = {("api", "url"): receiver.url, ("delivery", "request_timeout"): "200ms"}
        report = await findings(file, online=True, overrides=overrides)
    assert report.exit_code == 4
    assert "no answer in time" in dict(at(report, Level.FAIL))["api"] or "no complete answer" in str(
        report.findings
    )


@pytest.mark.anyio
async def test_tls_to_the_api_is_verified(file: Path, tmp_path: Path) -> None:
    tls = certify(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.cert_file, tls.key_file)
    async with Receiver(token_or(Reply(body=b"")), tls=context) as receiver:
        trusted = online_settings(receiver.url, ca_file=tls.cert_file)
        assert (
            "TLS verified"
            in dict(at(await findings(file, LOGIN, online=True, overrides=trusted), Level.OK))["api"]
        )
        report = await findings(file, online=True, overrides={("api", "url"): receiver.url})
    assert "certificate refused" in dict(at(report, Level.FAIL))["api"]
    assert report.exit_code == 4


# --- the commands ---


def test_check_prints_a_line_for_each_finding_and_the_same_as_json(file: Path) -> None:
    shown = CliRunner().invoke(cli, ["check", "--config", str(file)])
    assert shown.exit_code == 0
    assert all(line.startswith(("ok    ", "warn  ")) for line in shown.output.splitlines())
    told = json.loads(CliRunner().invoke(cli, ["check", "--config", str(file), "--json"]).output)
    assert told["exit_code"] == 0
    assert len(told["checks"]) == len(shown.output.splitlines())
    assert told["checks"][0] == {"level": "ok", "check": "configuration", "text": f"{file} loads"}
    failed = CliRunner().invoke(cli, ["check", "--config", str(file), "--listen", "0.0.0.0:0"])
    assert failed.exit_code == 2
    assert "FAIL  access " in failed.output


def test_config_shows_what_the_command_line_says(file: Path) -> None:
    shown = CliRunner().invoke(cli, ["config", "show", "--config", str(file), "--admin-listen", "[::1]:9"])
    assert shown.exit_code == 0
    lines = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert 'listen = "[::1]:9" # command line' in lines
    assert f"no_auth = true # file {file}" in lines
    told = CliRunner().invoke(cli, ["config", "show", "--json", "--region", "us-east-1"])
    assert json.loads(told.output)["origins"]["api.region"] == "command line"
    assert json.loads(CliRunner().invoke(cli, ["config", "schema"]).output)["type"] == "object"
