"""The chart is, with its defaults, what deploy/k8s is; and valid with other values, too."""

import re
from pathlib import Path
from typing import Any

import msgspec

import ingestd
from tests.process.deploy.support import DEPLOY, manifests, passes, tool, yaml

CHART = DEPLOY / "helm"
GO = "go install helm.sh/helm/v3/cmd/helm@latest"
OLDEST = ("--kube-version", "1.30.0")  # a helm of go install thinks that there is 1.20
OTHER = """
replicas: 2
image: {repository: registry.example.com/ingestd, tag: "1.2", pullPolicy: Always, pullSecrets: [{name: pull}]}
secretName: crm-secrets
env: [{name: INGESTD_LOG_LEVEL, value: debug}]
service: {type: LoadBalancer, annotations: {a: b}}
storage: {size: 20Gi, className: fast, accessMode: ReadWriteOnce}
podAnnotations: {team: crm}
nodeSelector: {disk: ssd}
tolerations: [{key: k, operator: Exists}]
affinity: {nodeAffinity: {}}
serviceMonitor: {enabled: false}
podDisruptionBudget: {enabled: false}
networkPolicy: {enabled: false}
"""


def render(release: str, *words: str | Path) -> dict[tuple[str, str], Any]:
    """(kind, name) -> object."""
    helm = tool("helm", package=GO)
    said = passes(helm, "template", release, CHART, "--namespace", "events", *OLDEST, *words)
    found = [msgspec.yaml.decode(f"{one}\n") for one in said.split("\n---\n") if "kind:" in one]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def plain(manifest: Any) -> Any:
    """Without what helm adds to it."""
    labels = manifest["metadata"]["labels"]
    for added in ("app.kubernetes.io/managed-by", "app.kubernetes.io/version", "helm.sh/chart"):
        labels.pop(added)
    assert labels.pop("app.kubernetes.io/part-of") == "ingestd"  # of kustomization.yaml
    if manifest["kind"] == "StatefulSet":
        assert manifest["spec"]["template"]["metadata"].pop("annotations").keys() == {"checksum/config"}
    if manifest["kind"] == "Service" and "type" in manifest["spec"]:
        assert manifest["spec"].pop("type") == "ClusterIP"
    return manifest


def test_what_it_holds_is_said_once_more_and_the_same() -> None:
    """Without helm, too."""
    values, chart = yaml("helm/values.yaml"), yaml("helm/Chart.yaml")
    assert values["config"] == (DEPLOY / "ingestd.toml").read_text(encoding="utf-8")
    assert chart["appVersion"] == chart["version"] == ingestd.__version__
    text = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").iterdir())
    asked = {name.split(".")[0] for name in re.findall(r"\.Values\.([A-Za-z.]+)", text)}
    assert asked == set(values)


def test_helm_finds_nothing_to_complain_of() -> None:
    passes(tool("helm", package=GO), "lint", "--strict", *OLDEST, CHART)


def test_with_its_defaults_it_is_what_the_manifests_are() -> None:
    wanted = [
        one for name, one in manifests().items() if name not in ("kustomization.yaml", "secret.example.yaml")
    ]
    rendered = render("ingestd")
    assert len(rendered) == len(wanted)
    for manifest in wanted:
        assert plain(rendered[manifest["kind"], manifest["metadata"]["name"]]) == manifest


def test_with_other_values_kubernetes_takes_it_and_finds_the_pods(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(OTHER)
    rendered = render("crm", "--values", tmp_path / "values.yaml")
    assert {kind for kind, _ in rendered} == {"ConfigMap", "Service", "StatefulSet"}
    files = []
    for number, one in enumerate(rendered.values()):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_bytes(msgspec.yaml.encode(one))
    passes(tool("kubernetes-validate", package="pip install -e '.[dev]'"), "--strict", "--quiet", *files)
    pods = rendered["StatefulSet", "crm"]["spec"]
    labels = pods["template"]["metadata"]["labels"].items()
    for selector in (pods["selector"]["matchLabels"], rendered["Service", "crm"]["spec"]["selector"]):
        assert ("app.kubernetes.io/instance", "crm") in selector.items() <= labels
    assert pods["serviceName"] == "crm-headless"
    assert ("Service", "crm-headless") in rendered
    container = pods["template"]["spec"]["containers"][0]
    assert container["image"] == "registry.example.com/ingestd:1.2"
    assert {one["name"] for one in container["env"]} == {"INGESTD_STATE_DIR", "INGESTD_LOG_LEVEL"}
