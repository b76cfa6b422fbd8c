"""A suite of its own whose workers are forked, and one of whose tests takes its worker with it."""

from pathlib import Path

from tests.process.inner_run import inner_run

TESTS = """
import os
from pathlib import Path

parent = Path(f"/proc/{os.getppid()}/cmdline").read_text()

def test_it_is_forked():
    assert "tests.workers" in parent

def test_it_dies():
    os._exit(3)

def test_what_is_compared_is_shown():
    assert [1, 2] == [1, 4711]
"""


def test_a_worker_that_dies_is_named_and_another_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nfilterwarnings = ['error']\n")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("tests.workers",)\n')
    (tmp_path / "test_inner.py").write_text(TESTS)
    done = inner_run(tmp_path, "-p", "xdist", "-n", "1", "--tb=short", wait_s=60)
    said = done.stdout + done.stderr
    failed = {line.split()[1].partition("::")[2] for line in said.splitlines() if line.startswith("FAILED ")}
    assert failed == {"test_it_dies", "test_what_is_compared_is_shown"}, said
    assert "2 failed, 1 passed" in said, said
    assert "At index 1 diff: 2 != 4711" in said, said
