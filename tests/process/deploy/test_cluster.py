"""The manifests of edges and workers fit each other, and a real server takes what it is given."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ingestd.config import load
from tests.each import each
from tests.machine import patience
from tests.nats_server import find_server
from tests.process.deploy.support import DEPLOY, passes, tool, yaml

FOLDER = DEPLOY / "k8s-cluster"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
DEV = "pip install -e '.[dev]'"


def of(name: str) -> Any:
    return yaml(f"k8s-cluster/{name}.yaml")


@each("version", [["-k", "1.30"], []])
def test_manifests_are_valid(version: list[str]) -> None:
    files = [FOLDER / f"{name}.yaml" for name in NAMES if name != "kustomization"]
    passes(tool("kubernetes-validate", package=DEV), "--strict", "--quiet", *version, *files)


def test_kustomize_takes_every_manifest_but_the_example_of_a_secret() -> None:
    assert {*of("kustomization")["resources"]} == {
        f"{name}.yaml" for name in NAMES if name not in ("kustomization", "secret.example")
    }


def test_selectors_find_their_pods_and_nobody_elses() -> None:
    pods = {
        name: of(file)["spec"]["template"]["metadata"]["labels"]
        for name, file in (
            ("edge", "edge-deployment"),
            ("worker", "worker-deployment"),
            ("nats", "nats-statefulset"),
        )
    }
    wanted: dict[str, tuple[Any, set[str]]] = {
        "edge": (of("edge-service")["spec"]["selector"], {"edge"}),
        "edges' budget": (of("edge-poddisruptionbudget")["spec"]["selector"]["matchLabels"], {"edge"}),
        "workers' budget": (of("worker-poddisruptionbudget")["spec"]["selector"]["matchLabels"], {"worker"}),
        "edges": (of("edge-deployment")["spec"]["selector"]["matchLabels"], {"edge"}),
        "workers": (of("worker-deployment")["spec"]["selector"]["matchLabels"], {"worker"}),
        "servers": (of("nats-service")["spec"]["selector"], {"nats"}),
        "admin": (of("admin-service")["spec"]["selector"], {"edge", "worker"}),
        "policy": (of("networkpolicy")["spec"]["podSelector"]["matchLabels"], {"edge", "worker"}),
    }
    found = {
        name: {pod for pod, labels in pods.items() if selector.items() <= labels.items()}
        for name, (selector, _) in wanted.items()
    }
    assert found == {name: expected for name, (_, expected) in wanted.items()}


def test_the_configuration_loads_and_names_the_servers_that_there_are(tmp_path: Path) -> None:
    file = tmp_path / "ingestd.toml"
    file.write_text(of("configmap")["data"]["ingestd.toml"])
    settings = load(str(file), {}, {})
    servers, service = of("nats-statefulset"), of("nats-service")["metadata"]["name"]
    assert settings.spool.kind == "nats"
    assert settings.spool.replicas == servers["spec"]["replicas"] == len(settings.spool.servers)
    names = [
        f"nats://{servers['metadata']['name']}-{n}.{service}:4222" for n in range(settings.spool.replicas)
    ]
    assert list(settings.spool.servers) == names
    secrets = of("secret.example")["stringData"]
    asked = re.findall(r'"/run/secrets/([\w-]+)"', of("configmap")["data"]["ingestd.toml"])
    assert set(asked) == set(secrets)
    assert [value for value in secrets.values() if not value.startswith("REPLACE-WITH-")] == []


def test_nats_server_takes_its_configuration(tmp_path: Path) -> None:
    server = find_server()
    if server is None:
        pytest.skip("there is no nats-server")
    file = tmp_path / "nats.conf"
    file.write_text(of("nats-configmap")["data"]["nats.conf"])
    done = subprocess.run(
        [server, "-t", "-c", str(file)],
        env={"SERVER_NAME": "ingestd-nats-0", "NATS_PASSWORD": "secret"},
        capture_output=True,
        text=True,
        timeout=patience(30),
        check=False,
    )
    assert done.returncode == 0, done.stderr
