"""A suite of its own whose tests do not end, in the ways in which a test can fail to end."""

import os
from pathlib import Path

import pytest

from tests.machine import patience
from tests.process.inner_run import inner_run

LIMIT_S = patience(0.8)
MARK = f"3600.{os.getpid()}"  # a process of the inner suite is known by how long it sleeps

CONFTEST = f"""
import asyncio, time, pytest
pytest_plugins = ("tests.limits",)

@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {{"use_uvloop": request.param == "uvloop"}}

@pytest.fixture
async def lingering():
    yield
    await asyncio.sleep(3600)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    if item.name == "test_is_reported_slowly" and call.when == "call":
        time.sleep({0.8 * LIMIT_S})
    return (yield)
"""
TESTS = f"""
import asyncio, subprocess, time, pytest

@pytest.mark.anyio
async def test_waits():
    process = await asyncio.create_subprocess_exec("sleep", "{MARK}", stdout=-1)
    try:
        await process.communicate()
    finally:
        process.kill()
        await process.wait()

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [("asyncio", {{"use_uvloop": True}})])
async def test_gives_in_to_nothing(anyio_backend):
    subprocess.Popen(["sleep", "{MARK}"])
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            pass

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_leaves(lingering):
    pass

def test_sleeps():
    time.sleep(3600)

def test_is_reported_slowly():
    time.sleep({0.5 * LIMIT_S})
    assert False

@pytest.mark.parametrize("number", range(9))
def test_passes(number):
    pass
"""
FAILED = {
    *("test_waits[asyncio]", "test_waits[uvloop]", "test_gives_in_to_nothing[anyio_backend0]"),
    *("test_leaves[asyncio]", "test_sleeps", "test_is_reported_slowly"),
}


@pytest.mark.slow(
    "tests/process/test_reports.py::test_a_failure_that_is_hard_to_describe_is_still_named",
)
def test_what_takes_too_long_fails_under_its_name_and_the_others_are_run(tmp_path: Path) -> None:
    options = f"filterwarnings = ['error']\ntimeout = {LIMIT_S}\ntimeout_func_only = true\n"
    (tmp_path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\n{options}")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_inner.py").write_text(TESTS)
    done = inner_run(tmp_path, "-p", "xdist", "-p", "anyio", "-p", "pytest_timeout", "-n", "2", wait_s=100)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "INTERNALERROR" not in said
    lines = [line.split()[1] for line in said.splitlines() if line.startswith("FAILED ")]
    assert {line.partition("::")[2] for line in lines} == FAILED, said
    assert "6 failed, 10 passed" in said, "the one whose fixture lingers had passed"
    assert "test_gives_in_to_nothing[anyio_backend0] did not end within" in said
    assert "the test took longer than" in said
    assert not [name for name in _commands() if MARK in name]


def _commands() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text())
        except OSError:
            continue  # it has ended
    return found
