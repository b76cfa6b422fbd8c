"""The cluster of compose fits itself, and real programs take what they are given. Without Docker."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ingestd import __version__
from ingestd.config import Settings, load
from tests.each import each
from tests.machine import patience
from tests.nats_server import find_server
from tests.process.deploy.support import DEPLOY, passes, tool, yaml

FILE, FOLDER = "compose-cluster.yaml", DEPLOY / "compose-cluster"
HARDENED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
NODES = {"edge-1": "--edge", "edge-2": "--edge", "worker-1": "--worker", "worker-2": "--worker"}
SERVERS = ["nats-0", "nats-1", "nats-2"]


def services() -> Any:
    return yaml(FILE)["services"]


def settings() -> Settings:
    return load(str(FOLDER / "ingestd.toml"), {}, {})


def test_the_file_is_one_of_compose() -> None:
    lint = tool("check-jsonschema", package="pip install -e '.[dev]'")
    passes(lint, "--builtin-schema", "vendor.compose-spec", DEPLOY / FILE)


def test_it_has_what_the_cluster_of_kubernetes_has() -> None:
    assert {name: services()[name]["command"][1] for name in NODES} == NODES
    assert [name for name in services() if name.startswith("nats")] == SERVERS
    assert services()["spool-init"]["command"][:2] == ["spool", "init"]
    assert services()["spool-init"]["build"]["args"] == {"EXTRAS": "nats"}
    assert {"prometheus", "grafana", "sandbox", "producer"} < services().keys()
    images = {service["image"] for name, service in services().items() if "nats" not in name}
    assert {image for image in images if image.startswith("ingestd")} == {f"ingestd:{__version__}"}
    kubernetes = yaml("k8s-cluster/nats-statefulset.yaml")["spec"]["template"]["spec"]["containers"][0]
    assert {services()[name]["image"] for name in SERVERS} == {kubernetes["image"]}


@each("name", services())
def test_every_service_is_hardened_bounded_and_on_loopback(name: str) -> None:
    service = services()[name]
    assert HARDENED.items() <= service.items()
    assert "mem_limit" in service
    assert [port for port in service.get("ports", ()) if not port.startswith("127.0.0.1:")] == []
    assert name in NODES or "healthcheck" in service


def test_every_file_that_is_mounted_is_there_and_every_server_has_a_volume_of_its_own() -> None:
    volumes = yaml(FILE)["volumes"].keys()
    for name, service in services().items():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in volumes or (DEPLOY / source).exists(), f"{name}: {mount}"
    assert [mount for name in SERVERS for mount in services()[name]["volumes"] if ":/data" in mount] == [
        f"{name}:/data" for name in SERVERS
    ]
    for name, secret in yaml(FILE)["secrets"].items():
        assert (DEPLOY / secret["file"]).read_text(encoding="utf-8").strip(), name


def test_the_configuration_names_the_servers_and_secrets_that_there_are() -> None:
    given = settings()
    assert list(given.spool.servers) == [f"nats://{name}:4222" for name in SERVERS]
    assert given.spool.replicas == len(SERVERS)
    asked = re.findall(r'"/run/secrets/([\w-]+)"', (FOLDER / "ingestd.toml").read_text())
    for name in (*NODES, "spool-init"):
        assert set(services()[name]["secrets"]) == set(asked)
    password = (DEPLOY / "demo/nats-password").read_text(encoding="utf-8").strip()
    assert {services()[name]["environment"]["NATS_PASSWORD"] for name in SERVERS} == {password}
    assert [services()[name]["environment"]["SERVER_NAME"] for name in SERVERS] == SERVERS
    assert given.api.url == "http://sandbox:8700"


def test_it_is_that_of_kubernetes_but_for_servers_sizes_and_the_api(tmp_path: Path) -> None:
    file = tmp_path / "ingestd.toml"
    file.write_text(yaml("k8s-cluster/configmap.yaml")["data"]["ingestd.toml"])
    one, other = settings().model_dump(), load(str(file), {}, {}).model_dump()
    for tree in (one, other):
        for section, names in {
            "spool": ("servers", "max_bytes"),
            "api": ("url", "token_url", "region"),
        }.items():
            for name in names:
                tree[section].pop(name)
    assert one == other


def test_nats_server_takes_its_configuration(tmp_path: Path) -> None:
    server = find_server()
    if server is None:
        pytest.skip("there is no nats-server")
    done = subprocess.run(
        [server, "-t", "-c", str(FOLDER / "nats.conf")],
        env={"SERVER_NAME": "nats-0", "NATS_PASSWORD": "secret"},
        capture_output=True,
        text=True,
        timeout=patience(30),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = (FOLDER / "nats.conf").read_text()
    assert re.findall(r"nats://([\w-]+):6222", text) == SERVERS


def test_prometheus_asks_every_edge_and_worker_and_has_the_alerts(tmp_path: Path) -> None:
    [ingestd, _] = yaml("compose-cluster/prometheus.yml")["scrape_configs"]
    assert ingestd["job_name"] == yaml("prometheus/prometheus.yml")["scrape_configs"][0]["job_name"]
    assert ingestd["static_configs"] == [{"targets": [f"{name}:9464" for name in NODES]}]
    mounts = dict(mount.removesuffix(":ro").split(":") for mount in services()["prometheus"]["volumes"])
    for source in (name for name in mounts if name.startswith("./")):
        shutil.copy(DEPLOY / source, tmp_path / os.path.basename(mounts[source]))
    promtool = tool("promtool", package="apt-get install prometheus")
    passes(promtool, "check", "config", tmp_path / "prometheus.yml")
