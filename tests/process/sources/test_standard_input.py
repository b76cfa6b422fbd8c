"""Standard input of a process."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import patience

pytestmark = pytest.mark.anyio


def test_standard_input_is_read_though_it_is_a_file_and_counts_as_read_once(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from ingestd.sources.files.jsonl import JsonSource\n"
        "source = JsonSource('-')\n"
        "async def main():\n"
        "    return [event async for chunk in source.chunks() for event in chunk.events]\n"
        "print(source.name, source.keeper.value, asyncio.run(main()))\n"
    )
    path = tmp_path / "events"
    path.write_bytes(b"a\nb\n")
    with path.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=patience(30),
        )
    assert done.stdout == "standard input journal [b'a', b'b']\n"
    assert done.stderr == ""
