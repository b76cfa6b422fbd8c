"""What the help of a command costs: nothing heavy is imported for it."""

import statistics
import subprocess
import sys

from tests.each import each
from tests.machine import patience


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    heavy = "{'aiohttp', 'aiosqlite', 'anyio', 'asyncio', 'httpx', 'msgspec', 'pydantic', 'rich', 'uvloop'}"
    code = f"""
import resource, sys
from ingestd.cli.group import cli
cli.main(["--help"], standalone_mode=False)
used = resource.getrusage(resource.RUSAGE_SELF)
print(sorted({heavy} & set(sys.modules)), used.ru_utime + used.ru_stime, file=sys.stderr)
"""
    seconds = []
    for _ in range(5):
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "replay" in shown.stdout
        loaded, _, spent = shown.stderr.strip().rpartition(" ")
        assert loaded == "[]"
        seconds.append(float(spent))
    assert statistics.median(seconds) < patience(0.2)


@each("command", ["replay", "check", "config", "dlq", "targets", "plan", "apply"])
def test_the_help_of_a_command_imports_no_network(command: str) -> None:
    code = f"""
import sys
from ingestd.cli.group import cli
cli.main(["{command}", "--help"], standalone_mode=False)
assert not {{"aiohttp", "httpx", "pydantic", "uvloop"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
