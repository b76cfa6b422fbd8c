"""What deploy/ says of the service, held against the running one: options, files, paths, signals, answers."""

import asyncio
import json
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio.to_thread
import click
import pytest

from ingestd.cli.group import cli
from tests.event_api import EventApi, event, events
from tests.machine import patience
from tests.process.cli.run_support import Serving, post, producer, retry, starting, told
from tests.process.cli.support import DEADLINE_S, Place, until
from tests.process.deploy.support import DEPLOY, alerts, instruction, manifests, probe, yaml
from tests.process.deploy.test_systemd import DIRECTORY, environment, values
from tests.receiver import Reply

pytestmark = pytest.mark.anyio

FREE = {"INGESTD_INGEST_LISTEN": "127.0.0.1:0", "INGESTD_ADMIN_LISTEN": "127.0.0.1:0"}
TOKEN = (DEPLOY / "demo/producer-demo").read_text(encoding="utf-8").strip()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def container_file(tmp_path: Path) -> Path:
    """The container's configuration with compose's secrets, at another place than /run/secrets."""
    return adapted("ingestd.toml", "/run/secrets", tmp_path)


def adapted(name: str, secrets: str, directory: Path) -> Path:
    for secret in ("client-id", "client-secret", "producer-demo"):
        (directory / secret).write_bytes((DEPLOY / "demo" / secret).read_bytes())
        (directory / secret).chmod(0o600)
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert secrets in text
    file = directory / "ingestd.toml"
    file.write_text(text.replace(secrets, str(directory)), encoding="utf-8")
    return file


def as_compose(api: EventApi) -> dict[str, str]:
    """Its environment, with this API in the sandbox's place."""
    given = dict(yaml("compose.yaml")["services"]["ingestd"]["environment"])
    assert given.pop("INGESTD_STATE_DIR") == instruction("VOLUME")[0]
    assert {value.partition("/oauth")[0] for value in given.values()} == {"http://sandbox:8700"}
    return {name: value.replace("http://sandbox:8700", api.url) for name, value in given.items()}


@asynccontextmanager
async def container(place: Place, file: Path, api: EventApi) -> AsyncIterator[Serving]:
    """The image's command, with the configuration of the container and the environment of compose."""
    [command, option, _] = json.loads(instruction("CMD")[-1])
    env = {**as_compose(api), **FREE, "INGESTD_STATE_DIR": str(place.state)}
    async with starting(place, [command, option, file], env=env) as serving:
        yield await serving.listening()


# --- the container ---


async def test_check_finds_nothing_wrong_with_the_configuration_of_the_container(
    place: Place, container_file: Path
) -> None:
    env = {"INGESTD_STATE_DIR": str(place.state)}
    listen = ("--listen", "0.0.0.0:0", "--admin-listen", "0.0.0.0:0")
    done = await place.run("check", "--config", container_file, *listen, "--json", env=env)
    report = json.loads(done.out)
    assert [check for check in report["checks"] if check["level"] == "FAIL"] == []
    assert done.code == report["exit_code"] == 0
    assert {"access", "producers", "login", "state directory"} <= {one["check"] for one in report["checks"]}
    assert not place.state.exists()


async def test_the_container_passes_every_probe_and_takes_what_the_demo_producer_posts(
    place: Place, container_file: Path
) -> None:
    api = EventApi()
    async with api, container(place, container_file, api) as service:
        assert await anyio.to_thread.run_sync(probe, service.admin_port) == 0
        spec = manifests()["statefulset.yaml"]["spec"]["template"]["spec"]["containers"][0]
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert (await service.get(spec[name]["httpGet"]["path"])).status == 200, name
        for endpoint in manifests()["servicemonitor.yaml"]["spec"]["endpoints"]:
            assert b"\ningestd_ready 1.0\n" in (await service.get(endpoint["path"])).body
        assert (await post(service.ingest_port, events(1))).status == 401
        async with demo_producer(service.ingest_port, place.directory / "producer-demo"):
            await until(lambda: len(api.events) >= 100)
        assert (await service.until(lambda told: told["ledger"]["in_flight"] == 0))["state"] == "running"
        for command in (["spool", "stat"], ["spool", "check"], ["dlq", "list", "--group"]):
            beside = await place.run(*command, env={"INGESTD_STATE_DIR": str(place.state)})
            assert (beside.code, beside.err) == (0, ""), command
        await service.stop()


def test_every_command_that_a_runbook_names_is_one() -> None:
    runbooks = [rule["annotations"]["runbook"] for rule in alerts().values()]
    named = {words for text in runbooks for words in re.findall(r"`ingestd ([^`]+)`", text)}
    assert len(named) > 6
    for words in named:
        command: click.Command = cli
        context, arguments = click.Context(cli), words.replace("ID", "17").split()
        while isinstance(command, click.Group):
            found = command.get_command(context, arguments.pop(0))
            assert found is not None, words
            command = found
        command.make_parser(context).parse_args(arguments)


@asynccontextmanager
async def demo_producer(port: int, token_file: Path) -> AsyncIterator[None]:
    """As compose.yaml starts it, with another address; faster."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(DEPLOY / "demo/post_sample.py")),
        *(f"http://127.0.0.1:{port}/v1/events", str(token_file), "5000"),
    )
    try:
        yield
        assert process.returncode is None, "it gave up"
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def test_a_mistake_in_the_configuration_ends_with_the_code_that_systemd_does_not_restart(
    place: Place, container_file: Path
) -> None:
    env = {**FREE, "INGESTD_STATE_DIR": str(place.state), "INGESTD_SPOOL_MAX_BYTES": "plenty"}
    done = await place.run("run", "--config", container_file, env=env)
    assert [str(done.code)] == values("RestartPreventExitStatus")
    [line] = done.said
    assert "INGESTD_SPOOL_MAX_BYTES: spool.max_bytes" in line


async def test_dead_letters_that_wait_are_counted_for_the_alert_while_the_service_runs(
    place: Place, container_file: Path
) -> None:
    api = EventApi(lambda request: Reply(422))
    async with api, container(place, container_file, api) as service:
        async with producer(service.ingest_port, token=TOKEN) as one:
            answer = await one.post([event(1)], query=b"?wait=delivered")
        assert told(answer)["dead_lettered"] == 1

        async def counted() -> bool:
            return await service.metric("ingestd_dead_letters", state="waiting") == 1

        await retry(counted, timeout_s=patience(8.0))


# --- systemd ---


class Supervisor:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    async def hears(self, wanted: str) -> str:
        """The next notice that begins so; none that changes the state is passed over."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE_S):
            while not (notice := (await loop.sock_recv(self.socket, 65_536)).decode()).startswith(wanted):
                assert notice.startswith(("STATUS=", "WATCHDOG=1")), f"{notice} before {wanted}"
        return notice


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    found = Supervisor(tmp_path / "notify")
    with found.socket:
        yield found


def as_unit(place: Place, supervisor: Supervisor) -> Mapping[str, str]:
    """What systemd would give the unit's process, at other places."""
    given = {
        name: value.replace(DIRECTORY, str(place.directory)).replace("/var/lib", str(place.directory))
        for name, value in environment().items()
    }
    watchdog_us = str(int(float(values("WatchdogSec")[0]) * 1e6))
    return {**given, **FREE, "NOTIFY_SOCKET": str(supervisor.path), "WATCHDOG_USEC": watchdog_us}


async def test_systemd_hears_of_start_reload_and_stop_and_the_watchdog(
    place: Place, supervisor: Supervisor
) -> None:
    file = adapted("systemd/ingestd.toml", DIRECTORY, place.directory)
    [_, *arguments, config] = values("ExecStart")[0].split()
    assert config == "/etc/ingestd/ingestd.toml"
    api = EventApi()
    async with api:
        env = {**as_unit(place, supervisor), "INGESTD_API_URL": api.url}
        env["INGESTD_API_TOKEN_URL"] = f"{api.url}/oauth/token"
        async with starting(place, [*arguments, file], env=env) as service:
            assert "listening on 127.0.0.1:" in await supervisor.hears("STATUS=")
            await supervisor.hears("READY=1")
            await service.listening()
            assert (await service.get("/readyz")).status == 200, "ready is said when it is so"
            await supervisor.hears("WATCHDOG=1")
            assert (await post(service.ingest_port, events(3), token=TOKEN)).status == 202
            service.send(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in await supervisor.hears("RELOADING=1")
            await supervisor.hears("READY=1")
            service.send(getattr(signal, values("KillSignal")[0]))
            await supervisor.hears("STOPPING=1")
            assert (await service.finish()).code == 0
        assert len(api.events) == 3, "the drain delivered what had been accepted"
    assert (place / "ingestd/state.db").exists()
