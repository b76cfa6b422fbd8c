"""The unit says what the service does: how long it drains, which exit code is final, where secrets are."""

import re
from pathlib import Path

import ingestd
from ingestd.config import load
from tests.process.deploy.support import DEPLOY, passes, tool

UNIT = (DEPLOY / "systemd/ingestd.service").read_text(encoding="utf-8")
DIRECTORY = "/run/credentials/ingestd.service"


def values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def environment() -> dict[str, str]:
    """As systemd would give it, with its specifiers for the state and the credentials directory."""
    words = " ".join(values("Environment")).replace("%S", "/var/lib").replace("%d", DIRECTORY)
    return dict(word.split("=", 1) for word in words.split())


def test_there_is_time_to_drain_before_the_kill() -> None:
    settings = load(str(DEPLOY / "systemd/ingestd.toml"), {}, environment())
    assert values("KillSignal") == ["SIGTERM"]
    assert settings.delivery.shutdown_timeout < int(values("TimeoutStopSec")[0])


def test_a_mistake_in_the_configuration_is_not_tried_again_and_a_crash_is() -> None:
    assert values("Restart") == ["on-failure"]
    assert values("RestartPreventExitStatus") == ["2"]


def test_readiness_reload_and_watchdog_are_those_of_the_service() -> None:
    assert values("Type") == ["notify"]
    assert values("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert float(values("WatchdogSec")[0]) >= 10


def test_every_secret_is_a_credential_and_state_is_the_only_place_to_write() -> None:
    settings = load(str(DEPLOY / "systemd/ingestd.toml"), {}, environment())
    files = {settings.api.client_id_file, settings.api.client_secret_file}
    files |= {producer.token_file for producer in settings.ingest.producers.values()}
    assert {f"{DIRECTORY}/{credential.split(':')[0]}" for credential in values("LoadCredential")} == files
    assert settings.state.dir == f"/var/lib/{values('StateDirectory')[0]}"
    assert values("ProtectSystem") == ["strict"]
    assert values("ReadWritePaths") == []


def test_there_are_files_enough_for_every_connection() -> None:
    settings = load(str(DEPLOY / "systemd/ingestd.toml"), {}, environment())
    assert int(values("LimitNOFILE")[0]) > settings.ingest.max_connections + 100


def test_the_debian_package_has_unit_account_and_configuration(tmp_path: Path) -> None:
    debian = tool("dpkg-deb", package="apt-get install dpkg")
    passes(DEPLOY / "systemd/make-deb", tmp_path)
    package = tmp_path / f"ingestd-service_{ingestd.__version__}_all.deb"
    listed = [line.split() for line in passes(debian, "--contents", package).splitlines()]
    modes = {words[5]: (words[0], words[1]) for words in listed}
    assert set(modes.values()) <= {(mode, "root/root") for mode in ("drwxr-xr-x", "drwx------", "-rw-r--r--")}
    assert [name for name, (mode, _) in modes.items() if mode == "drwx------"] == ["./etc/ingestd/secrets/"]
    passes(debian, "--raw-extract", package, tmp_path / "x")
    for name, place in {
        "ingestd.service": "usr/lib/systemd/system/ingestd.service",
        "sysusers.conf": "usr/lib/sysusers.d/ingestd.conf",
        "ingestd.toml": "etc/ingestd/ingestd.toml",
    }.items():
        assert (tmp_path / "x" / place).read_bytes() == (DEPLOY / "systemd" / name).read_bytes()
    assert (tmp_path / "x/DEBIAN/conffiles").read_text() == "/etc/ingestd/ingestd.toml\n"
    for script in ("postinst", "prerm"):
        passes("sh", "-n", tmp_path / "x/DEBIAN" / script)
