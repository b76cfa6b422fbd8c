"""Those who know each format judge the files of deploy/: linters, and the schemas of its formats."""

import re
import shutil
from pathlib import Path

import pytest

from tests.each import each
from tests.process.deploy.support import DEPLOY, ROOT, manifests, passes, queries, tool, yaml

DEV = "pip install -e '.[dev]'"
APT = "apt-get install prometheus"
OWN_KINDS = {"Kustomization", "ServiceMonitor"}
"""Not of Kubernetes itself, so not among its schemas; test_kubernetes.py looks at them."""

KINDS = sorted(name for name, manifest in manifests().items() if manifest["kind"] not in OWN_KINDS)
PROMETHEUS = DEPLOY / "prometheus"


def test_yaml_is_tidy() -> None:
    passes(tool("yamllint", package=DEV), "--strict", "-c", DEPLOY / ".yamllint.yaml", DEPLOY)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    passes(tool("hadolint", package=DEV), "--failure-threshold", "style", ROOT / "Dockerfile")


def test_the_compose_file_is_one_by_its_specification() -> None:
    lint = tool("check-jsonschema", package=DEV)
    passes(lint, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


@each("version", [["-k", "1.30"], []])
def test_manifests_are_valid_for_the_oldest_kubernetes_we_name_and_the_newest_known(
    version: list[str],
) -> None:
    lint = tool("kubernetes-validate", package=DEV)
    passes(lint, "--strict", "--quiet", *version, *(DEPLOY / "k8s" / name for name in KINDS))


def test_prometheus_takes_its_configuration_and_the_rules() -> None:
    passes(tool("promtool", package=APT), "check", "config", PROMETHEUS / "prometheus.yml")


def test_every_alert_is_silent_for_hours_in_which_all_is_well() -> None:
    passes(tool("promtool", package=APT), "test", "rules", PROMETHEUS / "alerts_hours_test.yml")


@pytest.mark.slow(
    "tests/process/deploy/test_lint.py::test_every_alert_is_silent_for_hours_in_which_all_is_well",
    "tests/process/deploy/test_lint.py::test_prometheus_takes_its_configuration_and_the_rules",
    "tests/process/cli/test_prometheus.py::test_alerts_notice_an_api_that_is_down_and_a_service_that_is_gone",
)
def test_every_alert_passes_its_unit_tests() -> None:
    passes(tool("promtool", package=APT), "test", "rules", *sorted(PROMETHEUS.glob("alerts*_test.yml")))


def test_prometheus_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = tmp_path / "queries.yml"
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for number, (_, query) in enumerate(queries()):
        if query.startswith("label_values("):  # Grafana's own
            continue
        query = query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$sink", ".*")
        assert "$" not in query
        lines += [f"      - record: query:{number}", f"        expr: '{query}'"]
    rules.write_text("\n".join(lines), encoding="utf-8")
    passes(tool("promtool", package=APT), "check", "rules", rules)


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed: no systemd"
)
def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd/ingestd.service").read_text(encoding="utf-8")
    unit = tmp_path / "ingestd.service"
    unit.write_text(re.sub(r"/opt/ingestd/bin/ingestd (?=run)", "/bin/true ", text), encoding="utf-8")
    said = passes("systemd-analyze", "verify", "--man=no", unit)
    assert "ingestd.service" not in said  # what it cannot parse it ignores, and says so
    passes("systemd-analyze", "security", "--offline=true", "--threshold=20", unit)  # of 100: 12 when written


def test_the_versions_of_images_are_pinned() -> None:
    services = yaml("compose.yaml")["services"].values()
    images = [service["image"] for service in services]
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert [image for image in (*images, *bases) if not re.search(r":v?\d+\.\d+", image)] == []
