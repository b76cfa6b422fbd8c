"""What would be published: an sdist, the wheel that is built from it, and that in an empty environment.

Nothing is fetched: both are made by the setuptools that is here.
"""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import ingestd
from tests.machine import patience
from tests.process.deploy.support import ROOT

pytest.importorskip("setuptools", minversion="77")
NOT_SHIPPED = {"__pycache__", "accelerator"}  # the crate is a package of its own


def python(*words: str, cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=patience(60),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sources() -> set[str]:
    found = (path.relative_to(ROOT) for path in (ROOT / "ingestd").rglob("*") if path.is_file())
    return {str(path) for path in found if not NOT_SHIPPED & set(path.parts)}


def build_wheel(place: Path) -> Path:
    """From the sdist, which is built from the tree."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "ingestd"):
        (place / name).symlink_to(ROOT / name)
    build = "import setuptools.build_meta as b, sys; getattr(b, sys.argv[1])(sys.argv[2])"
    python("-W", "error", "-c", build, "build_sdist", str(place / "out"), cwd=place)
    (sdist,) = (place / "out").iterdir()
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    unpacked = place / sdist.name.removesuffix(".tar.gz")
    python("-W", "error", "-c", build, "build_wheel", str(place / "out"), cwd=unpacked)
    (found,) = (place / "out").glob("*.whl")
    return found


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def has_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == sources()
    assert len([name for name in packed if not name.endswith(".py")]) > 5


def tells_an_index_what_it_is(wheel: Path) -> None:
    told = metadata(wheel)
    assert (told["Name"], told["Version"]) == ("ingestd", ingestd.__version__)
    assert told["Description-Content-Type"] == "text/markdown"
    assert (told["License-Expression"], told["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    text = told.get_payload()
    assert isinstance(text, str)
    assert text.strip() == (ROOT / "README.md").read_text().strip()
    assert 1_000 < len(text) < 8_000
    classifiers = told.get_all("Classifier") or []
    assert {"Operating System :: POSIX", "Typing :: Typed"} <= set(classifiers)
    assert not any(one.startswith("License ::") for one in classifiers), "License-Expression takes its place"


def runs_from_an_empty_folder(wheel: Path, place: Path) -> None:
    target = place / "target"
    quiet = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    python(*quiet, "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=place)
    look = "import ingestd, ingestd.schemas.genesys_models as m; print(ingestd.__file__, len(m.read_from()))"
    file, read = python("-c", look, cwd=target, PYTHONPATH=str(target)).split()
    assert Path(file).is_relative_to(target)
    assert int(read) > 1
    shown = python(str(target / "bin/ingestd"), "--version", cwd=target, PYTHONPATH=str(target))
    assert shown == f"ingestd, version {ingestd.__version__}\n"
    shown = python("-m", "ingestd", "--version", cwd=target, PYTHONPATH=str(target))
    assert shown == f"ingestd, version {ingestd.__version__}\n"


def test_every_file_is_a_module_or_data_that_is_packed() -> None:
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    data = {str(path.relative_to(ROOT)) for one in packed["ingestd"] for path in (ROOT / "ingestd").glob(one)}
    modules = {name for name in sources() if name.endswith(".py")}
    assert {str(Path(name).parent / "__init__.py") for name in modules} <= modules
    assert sources() - modules == data


@pytest.mark.slow(
    "tests/process/deploy/test_package.py::test_every_file_is_a_module_or_data_that_is_packed",
    "tests/process/cli/test_extras.py::test_a_replay_into_several_sinks_and_a_lake_needs_no_extra_and_a_sink_that_needs_one_says_which",
)
def test_the_package_is_whole_and_runs_where_there_is_nothing_but_what_it_requires(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    has_every_file(wheel)
    tells_an_index_what_it_is(wheel)
    runs_from_an_empty_folder(wheel, tmp_path)
