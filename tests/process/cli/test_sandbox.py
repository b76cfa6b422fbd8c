"""``ingestd sandbox`` as a process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.each import each
from tests.machine import patience

COMMAND = [sys.executable, "-W", "error", "-c", "from ingestd.cli.sandbox import sandbox; sandbox()"]


@each("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_serves_and_stops_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('[{"match":{"path":"/oauth/token","nth":2},"answer":{"status":503}}]')
    options = ["--port", "0", "--script", str(script), "--client-id", "me", "--schema", "none"]
    environment = {**os.environ, "INGESTD_SANDBOX_CLIENT_SECRET": "not-to-be-seen"}
    with subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout
        ready = process.stdout.readline()
        found = re.fullmatch(r"sandbox at (http://\S+)  tokens at (\S+)  try: curl -s (\S+)\n", ready)
        assert found, ready
        form = {"grant_type": "client_credentials"}
        with httpx.Client(timeout=patience(30), trust_env=False, verify=False) as http:
            answers = [http.post(found[2], data=form, auth=("me", "not-to-be-seen")) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 503]
            assert http.get(found[3]).json()["tokens_issued"] == 1
            process.send_signal(number)
            out, err = process.communicate(timeout=patience(10))
    assert (process.returncode, out) == (0, "")
    assert err == ("0 events in 0 batches, 0 of them duplicates; 0 requests, 0 replays, 1 fault\n")
    assert "not-to-be-seen" not in ready + err
