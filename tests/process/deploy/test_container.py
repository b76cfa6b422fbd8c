"""The image and the little world of compose.yaml: pins, rights, and what its parts ask of each other."""

import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prometheus_client import CollectorRegistry

from ingestd import __version__
from ingestd.admin.metrics_server import serve_metrics
from ingestd.config import Settings, load
from tests.each import each
from tests.machine import patience
from tests.process.deploy.support import DEPLOY, ROOT, instruction, probe, toml_of_the_configmap, yaml
from tests.receiver import Receiver, Reply, Request, in_turn

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = (DEPLOY / "constraints.txt").read_text(encoding="utf-8")
HARDENED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}


def pins(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)] == []
    return dict(line.split("==") for line in lines)


def services() -> Any:
    return yaml("compose.yaml")["services"]


# --- the image ---


EXTRAS = [
    line
    for name in ("aws", "files", "jq", "kafka", "lake", "nats", "otel")
    for line in PROJECT["optional-dependencies"][name]
]


@each("line", sorted({*PROJECT["dependencies"], *EXTRAS}))
def test_every_dependency_is_pinned_to_a_version_that_the_project_allows(line: str) -> None:
    requirement = Requirement(line)
    assert requirement.specifier.contains(pins(CONSTRAINTS)[canonicalize_name(requirement.name)])


def test_constraints_can_be_made_again_and_hold_only_what_runs() -> None:
    done = subprocess.run(
        [sys.executable, DEPLOY / "pin.py"], capture_output=True, text=True, check=True, timeout=patience(30)
    )
    made = pins(done.stdout)
    needed = (*PROJECT["dependencies"], *EXTRAS)
    assert made.keys() >= {canonicalize_name(Requirement(line).name) for line in needed}
    assert made.keys() == pins(CONSTRAINTS).keys(), "make constraints"
    assert "pydantic-core" in made  # what a dependency needs in turn
    assert not {"moto", "pytest", "mypy", "ruff", "yamllint", "ingestd"} & made.keys()


def test_the_image_runs_as_a_number_and_hears_sigterm_itself() -> None:
    assert instruction("USER") == ["10001:10001"]
    assert instruction("STOPSIGNAL") == ["SIGTERM"]
    assert instruction("EXPOSE") == ["8080 9464"]
    assert json.loads(instruction("ENTRYPOINT")[0]) == ["ingestd"]
    assert json.loads(instruction("CMD")[-1]) == ["run", "--config", "/etc/ingestd/ingestd.toml"]
    assert "-c constraints.txt" in instruction("RUN")[2]


def test_what_the_image_copies_is_all_that_the_builder_is_sent() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert lines[1] == "*"
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {source for line in instruction("COPY") if "--from" not in line for source in line.split()[:-1]}
    assert copied == sent
    assert [name for name in sent if not (ROOT / name).exists()] == []
    assert any(fnmatch.fnmatch("ingestd/__pycache__/x.pyc", line) for line in lines if line.startswith("**"))


def test_the_version_is_the_same_everywhere() -> None:
    label = re.findall(r'image\.version="([^"]+)"', instruction("LABEL")[0])
    own = [s["image"].split(":")[1] for s in services().values() if s["image"].startswith("ingestd:")]
    [kustomized] = yaml("k8s/kustomization.yaml")["images"]
    [container] = yaml("k8s/statefulset.yaml")["spec"]["template"]["spec"]["containers"]
    tags = [*label, *own, kustomized["newTag"], container["image"].split(":")[1]]
    assert set(tags) == {__version__}


class Unwell(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.anyio
async def test_the_health_check_passes_while_the_admin_port_answers() -> None:
    import anyio.to_thread

    async with serve_metrics(CollectorRegistry(), "127.0.0.1", 0) as port:
        assert await anyio.to_thread.run_sync(probe, port) == 0
    assert await anyio.to_thread.run_sync(probe, port) != 0  # nobody listens any more


def test_the_health_check_fails_where_health_is_denied() -> None:
    with HTTPServer(("127.0.0.1", 0), Unwell) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            assert probe(server.server_port) != 0
        finally:
            server.shutdown()
            thread.join()


# --- its configuration ---


def test_the_configuration_of_the_container_loads_and_fits_the_image() -> None:
    settings = load(str(DEPLOY / "ingestd.toml"), {}, {})
    assert settings.ingest.listen == "0.0.0.0:8080"
    assert settings.admin.listen == "0.0.0.0:9464"
    assert settings.state.dir == instruction("VOLUME")[0]
    assert settings.log.format == "json"
    assert not settings.ingest.allow_anonymous
    assert settings.ingest.producers


def secret_files(settings: Settings) -> set[str]:
    files = {settings.api.client_id_file, settings.api.client_secret_file}
    return files | {producer.token_file for producer in settings.ingest.producers.values()}


def test_every_secret_file_of_the_configuration_is_given_by_compose_and_kubernetes() -> None:
    wanted = secret_files(load(str(DEPLOY / "ingestd.toml"), {}, {}))
    assert {Path(file).parent for file in wanted} == {Path("/run/secrets")}
    names = {Path(file).name for file in wanted}
    assert set(services()["ingestd"]["secrets"]) == names
    assert yaml("k8s/secret.example.yaml")["stringData"].keys() == names
    for name, secret in yaml("compose.yaml")["secrets"].items():
        assert (DEPLOY / secret["file"]).read_text(encoding="utf-8").strip(), name


def test_the_configmap_is_the_configuration_of_the_container() -> None:
    assert toml_of_the_configmap() == (DEPLOY / "ingestd.toml").read_text(encoding="utf-8")


# --- compose ---


@each("name", services())
def test_every_service_of_compose_is_hardened_and_bounded(name: str) -> None:
    service = yaml("compose.yaml")["x-hardened"] | services()[name]
    assert HARDENED.items() <= service.items()
    assert "mem_limit" in service
    assert [port for port in service.get("ports", ()) if not port.startswith("127.0.0.1:")] == []
    assert name in ("ingestd", "producer") or "healthcheck" in service


def test_every_file_that_compose_mounts_is_there() -> None:
    volumes = yaml("compose.yaml")["volumes"].keys()
    for name, service in services().items():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in volumes or (DEPLOY / source).exists(), f"{name}: {mount}"


def test_compose_sends_to_the_sandbox_with_credentials_that_it_takes(tmp_path: Path) -> None:
    environment = services()["ingestd"]["environment"]
    settings = load(str(DEPLOY / "ingestd.toml"), {}, environment)
    assert (settings.api.url, settings.api.region) == ("http://sandbox:8700", "")
    assert settings.api.token_url == "http://sandbox:8700/oauth/token"
    for name in ("client-id", "client-secret"):
        assert (DEPLOY / "demo" / name).read_text(encoding="utf-8").strip() == "sandbox"


def test_the_sandbox_of_compose_understands_its_words() -> None:
    from ingestd.cli.sandbox import sandbox

    name, *words = services()["sandbox"]["command"]
    assert name == "sandbox"
    sandbox.make_parser(sandbox.make_context("sandbox", [], resilient_parsing=True)).parse_args(list(words))
    from ingestd.sandbox.faults import parse_faults

    assert len(parse_faults([words[n + 1] for n, word in enumerate(words) if word == "--fault"])) == 5


def test_grafana_finds_dashboard_and_data_source_where_compose_mounts_them() -> None:
    mounts = dict(mount.removesuffix(":ro").split(":") for mount in services()["grafana"]["volumes"])
    [provider] = yaml("grafana/provisioning/dashboards/ingestd.yaml")["providers"]
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/ingestd.json"
    [source] = yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [target] = yaml("prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"]
    assert target["targets"] == ["ingestd:9464"]


@pytest.mark.anyio
async def test_the_producer_of_compose_repeats_what_was_not_taken_and_goes_on(tmp_path: Path) -> None:
    import anyio

    token = tmp_path / "token"
    token.write_text("first-token\nsecond-token\n", encoding="utf-8")
    taken = Reply(202, body=b'{"accepted":50,"duplicates":0,"rejected":[]}')
    answers = in_turn(
        Reply(429, {"Retry-After": "0"}), taken, Reply(422), taken, Reply(401, body=b"who are you")
    )
    async with Receiver(answers) as receiver:
        command = [
            sys.executable,
            "-W",
            "error",
            str(DEPLOY / "demo/post_sample.py"),
            receiver.url + "/v1/events",
        ]
        with anyio.fail_after(patience(30)):
            done = await anyio.run_process([*command, str(token), "50000"], check=False)
    assert done.returncode == 1
    assert b"answered 401: who are you" in done.stderr
    bodies = [request.body for request in receiver.requests]
    assert len(bodies) == 5
    assert bodies[0] == bodies[1]
    assert len(set(bodies)) == 4
    assert {len(body.splitlines()) for body in bodies} == {50}
    assert {authorization(request) for request in receiver.requests} == {"Bearer first-token"}


def authorization(request: Request) -> str:
    assert request.headers["content-type"] == "application/x-ndjson"
    return request.headers["authorization"]
