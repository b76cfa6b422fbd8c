"""The manifests fit each other, the image and the configuration: what no schema can say."""

from pathlib import Path
from typing import Any

from ingestd.config import Settings, load
from tests.process.deploy.support import DEPLOY, instruction, manifests


def settings() -> Settings:
    return load(str(DEPLOY / "ingestd.toml"), {}, {})


def of(name: str) -> Any:
    return manifests()[f"{name}.yaml"]


def pod() -> Any:
    return of("statefulset")["spec"]["template"]


def container() -> Any:
    [only] = pod()["spec"]["containers"]
    return only


def amount(text: str) -> int:
    """``10Gi`` in bytes."""
    return int(text[:-2]) * {"Mi": 2**20, "Gi": 2**30}[text[-2:]]


def test_kustomize_takes_every_manifest_but_the_example_of_a_secret() -> None:
    there = manifests().keys() - {"kustomization.yaml"}
    assert set(of("kustomization")["resources"]) == there - {"secret.example.yaml"}


def test_nobody_can_take_the_example_of_a_secret_for_one() -> None:
    values = of("secret.example")["stringData"].values()
    assert [value for value in values if not value.startswith("REPLACE-WITH-")] == []


def test_selectors_find_the_pod() -> None:
    labels = pod()["metadata"]["labels"].items()
    for selector in (
        of("statefulset")["spec"]["selector"]["matchLabels"],
        of("service")["spec"]["selector"],
        of("service-headless")["spec"]["selector"],
        of("poddisruptionbudget")["spec"]["selector"]["matchLabels"],
        of("networkpolicy")["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector
        assert selector.items() <= labels
    assert of("statefulset")["spec"]["serviceName"] == of("service-headless")["metadata"]["name"]


def test_prometheus_scrapes_each_pod_once_as_the_job_that_alerts_ask_for() -> None:
    monitor = of("servicemonitor")["spec"]
    services = [of("service"), of("service-headless")]
    wanted = monitor["selector"]["matchLabels"].items()
    [found] = [service for service in services if wanted <= service["metadata"]["labels"].items()]
    assert found["spec"]["publishNotReadyAddresses"]
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in found["spec"]["ports"]}
    assert found["metadata"]["labels"][monitor["jobLabel"]] == "ingestd"


def test_ports_are_those_of_image_and_configuration() -> None:
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert " ".join(map(str, ports.values())) == instruction("EXPOSE")[0]
    assert settings().ingest.listen.endswith(f":{ports['http']}")
    assert settings().admin.listen.endswith(f":{ports['admin']}")
    for service in ("service", "service-headless"):
        for port in of(service)["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container()[probe]["httpGet"]["port"] == "admin"
    assert container()["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container()["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_there_is_time_to_drain_before_the_kill() -> None:
    waits_s = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert waits_s + settings().delivery.shutdown_timeout < pod()["spec"]["terminationGracePeriodSeconds"]


def test_the_pod_is_restricted_as_the_image_is_built_for() -> None:
    outer, inner = pod()["spec"]["securityContext"], container()["securityContext"]
    user = int(instruction("USER")[0].split(":")[0])
    assert outer["runAsNonRoot"]
    assert {outer["runAsUser"], outer["runAsGroup"], outer["fsGroup"]} == {user}
    assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inner == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["spec"]["automountServiceAccountToken"] is False
    assert container()["resources"]["limits"].keys() >= {"cpu", "memory"}


def test_the_volume_is_the_state_and_holds_the_spool_at_its_cap_twice() -> None:
    [claim] = of("statefulset")["spec"]["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == settings().state.dir
    assert container()["env"] == [{"name": "INGESTD_STATE_DIR", "value": settings().state.dir}]
    audit_bytes = settings().audit.max_bytes * (settings().audit.keep + 1)
    needed = 2 * settings().spool.max_bytes + settings().spool.ballast + audit_bytes
    assert amount(claim["spec"]["resources"]["requests"]["storage"]) > needed
    volumes = {volume["name"] for volume in pod()["spec"]["volumes"]}
    assert mounts.keys() == volumes | {claim["metadata"]["name"]}


def test_files_are_mounted_where_command_and_configuration_look_for_them() -> None:
    mounts = {mount["name"]: Path(mount["mountPath"]) for mount in container()["volumeMounts"]}
    file = Path(container()["args"][-1])
    assert file.parent == mounts["config"]
    assert file.name in of("configmap")["data"]
    assert Path(settings().api.client_secret_file).parent == mounts["secrets"]
