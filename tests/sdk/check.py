"""Genesys Cloud's Python and JavaScript SDKs against the sandbox: ``make sdk-check``.

Each SDK comes from its registry, in the version that the table of models was read from, into ``.cache/sdk``;
where it cannot be had, that is said, and it is left out. Exits with 1 if one of them disagrees.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingestd.schemas.genesys_models import event_api
from tests.genesys import least_entry, uuid_of
from tests.machine import patience
from tests.sdk.read_models import JAVASCRIPT, JAVASCRIPT_VERSION, PYTHON, PYTHON_VERSION

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache/sdk"
SANDBOX = [sys.executable, "-m", "ingestd", "sandbox", "--port", "0", "--quiet", "--no-communication-states"]


def main() -> None:
    """Over HTTPS, with a certificate of the sandbox's own."""
    CACHE.mkdir(parents=True, exist_ok=True)
    python, node = install_python(), install_javascript()
    failed = 0
    with tempfile.TemporaryDirectory() as place, sandbox() as (url, cert):
        file = Path(place, "entries.json")
        file.write_text(json.dumps(entries()), encoding="utf-8")
        file.with_name("sandbox.crt").write_bytes(Path(cert).read_bytes())
        host, port = re.findall(r"https://(.*):(\d+)", url)[0]
        trusting = os.environ | {"NODE_EXTRA_CA_CERTS": cert, "NODE_PATH": str(CACHE / "node_modules")}
        if python:
            failed |= subprocess.run([python, HERE / "drive.py", url, file], timeout=patience(300)).returncode
        if node:
            command = ["node", HERE / "drive.cjs", host, port, file]
            failed |= subprocess.run(command, env=trusting, timeout=patience(300)).returncode
    sys.exit(1 if failed else 0)


def entries() -> dict[str, object]:
    """One of each array of conversations, each with an id of its own."""
    arrays = event_api("conversations").arrays
    return {array: least_entry(array, eventId=uuid_of(f"event {array}")) for array in arrays}


@contextmanager
def sandbox() -> Iterator[tuple[str, str]]:
    """(its URL, the file of its certificate)."""
    with subprocess.Popen([*SANDBOX, "--tls"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        ready = process.stdout.readline()
        found = re.search(r"sandbox at (\S+) .* --cacert (\S+)", ready)
        assert found, ready
        try:
            yield found[1], found[2]
        finally:
            process.terminate()


def install_python() -> Path | None:
    python = CACHE / "venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", CACHE / "venv"], check=True)
    return (
        python
        if fetched([python, "-m", "pip", "install", "--quiet", f"{PYTHON}=={PYTHON_VERSION}"])
        else None
    )


def install_javascript() -> bool:
    return fetched(["npm", "install", "--silent", "--prefix", CACHE, f"{JAVASCRIPT}@{JAVASCRIPT_VERSION}"])


def fetched(command: list[str | Path]) -> bool:
    try:
        done = subprocess.run(command, timeout=patience(600)).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        sys.stdout.write(f"left out, it cannot be had: {' '.join(map(str, command))}\n")
    return done


if __name__ == "__main__":
    main()
