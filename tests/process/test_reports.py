"""A suite of its own whose failures are hard to describe: each is still named."""

from pathlib import Path

from tests.process.inner_run import inner_run

CONFTEST = 'pytest_plugins = ("tests.reports",)'
TESTS = """
import ast, gc

class ParsesAtItsEnd:
    left = 20_000

    def __init__(self):
        self.circle = self

    def __del__(self):
        ast.parse("a + b")
        if ParsesAtItsEnd.left:
            ParsesAtItsEnd.left -= 1
            ParsesAtItsEnd()  # garbage of the next round

def test_fails_far_down_while_garbage_is_collected():
    gc.set_threshold(20)
    ParsesAtItsEnd()
    def down(left):
        assert left
        down(left - 1)
    down(60)

class Unspeakable(Exception):
    def __str__(self):
        raise SystemError("no words for it")

def test_fails_with_what_cannot_be_shown(request):
    request.node.repr_failure = lambda *_, **__: 1 / 0
    raise Unspeakable

def test_passes():
    pass
"""


def test_a_failure_that_is_hard_to_describe_is_still_named(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_inner.py").write_text(TESTS)
    done = inner_run(tmp_path, "-p", "xdist", "-n", "1", wait_s=60)
    said = done.stdout + done.stderr
    assert "INTERNALERROR" not in said
    named = {line.split()[1] for line in said.splitlines() if line.startswith("FAILED ")}
    assert {name.partition("::")[2] for name in named} == {
        "test_fails_far_down_while_garbage_is_collected",
        "test_fails_with_what_cannot_be_shown",
    }, said
    assert "2 failed, 1 passed" in said
    assert "assert left" in said, "described as any other"
    assert "ZeroDivisionError" in said, "why it was not"
