"""What the tests of deploy/ share: its files, read once, and the tools that judge them."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.machine import patience

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"


@functools.cache
def yaml(name: str) -> Any:
    """A file of deploy/, parsed: ``k8s/service.yaml``."""
    return msgspec.yaml.decode((DEPLOY / name).read_bytes())


def alerts() -> dict[str, dict[str, Any]]:
    """Name -> rule."""
    return {
        rule["alert"]: rule for group in yaml("prometheus/alerts.yml")["groups"] for rule in group["rules"]
    }


def dashboard() -> Any:
    return json.loads((DEPLOY / "grafana/dashboards/ingestd.json").read_bytes())


def queries() -> Iterator[tuple[str, str]]:
    """(panel, PromQL) of everything that the dashboard asks."""
    for panel in dashboard()["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel.get("targets", ()))
    yield from ((note["name"], note["expr"]) for note in dashboard()["annotations"]["list"])
    yield from ((name["name"], name["query"]["query"]) for name in dashboard()["templating"]["list"][1:])


def manifests() -> dict[str, Any]:
    """File name -> manifest, of all in deploy/k8s."""
    return {path.name: yaml(f"k8s/{path.name}") for path in sorted((DEPLOY / "k8s").glob("*.yaml"))}


def toml_of_the_configmap() -> str:
    return str(manifests()["configmap.yaml"]["data"]["ingestd.toml"])


def instruction(name: str) -> list[str]:
    """The arguments of each such instruction in the Dockerfile, with its line ends taken out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.*)$", text, re.MULTILINE)


def probe(port: int) -> int:
    """The image's health check, with another port, in an environment whose proxy answers nothing."""
    words = json.loads(instruction("HEALTHCHECK")[0].split("CMD", 1)[1])
    assert words[0] == "python"
    command = [sys.executable, *(word.replace("9464", str(port)) for word in words[1:])]
    proxies = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    return subprocess.run(
        command, env=proxies, capture_output=True, timeout=patience(30), check=False
    ).returncode


def tool(name: str, *, package: str) -> str:
    """The path of a linter: beside this Python, or on the PATH. Skips, saying what to install, without it."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed: {package}")
    return found


SPARING = {"GOGC": "800"}
"""promtool looked for garbage a third of its time; its memory stays small."""


def passes(*command: str | Path) -> str:
    """Run it; its own words are the failure, and what is given back."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | SPARING,
        timeout=patience(50),
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
