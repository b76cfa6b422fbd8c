"""What a sink sends does not hang on its process."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from tests.contract.sinks.cases import fingerprints

ROOT = Path(__file__).parents[3]


def test_another_process_sends_the_same_bytes_and_headers() -> None:
    """Nothing hangs on the order of a set, a clock or a random number."""
    code = "from tests.contract.sinks.cases import fingerprints; print(fingerprints())"
    environment = os.environ | {"PYTHONHASHSEED": "4242"}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(found.stdout) == fingerprints()
