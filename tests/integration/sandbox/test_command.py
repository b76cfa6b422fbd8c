"""``ingestd sandbox`` as a process of its own, and what it says to wrong options."""

import base64
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
from click.testing import CliRunner

from ingestd.cli import sandbox as command
from ingestd.cli.sandbox import sandbox
from ingestd.core.errors import UserError
from ingestd.sandbox import faults
from ingestd.sandbox.apis.ingest import SandboxOptions
from tests.machine import patience

COMMAND = [sys.executable, "-W", "error", "-c", "from ingestd.cli.sandbox import sandbox; sandbox()"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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
        with httpx.Client(trust_env=False) as http:
            answers = [http.post(found[2], data=form, auth=("me", "not-to-be-seen")) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 503]
            assert http.get(found[3]).json()["tokens_issued"] == 1
            process.send_signal(number)
            out, err = process.communicate(timeout=patience(10))
    assert (process.returncode, out) == (0, "")
    assert err == ("0 events in 0 batches, 0 of them duplicates; 0 requests, 0 replays, 1 fault\n")
    assert "not-to-be-seen" not in ready + err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fault", "429"], "'429' is not a fault"),
        (["--fault", "429:0.9", "--fault", "503:0.9"], "add up to 1.8"),
        (["--latency", "soon"], "'soon' is not a duration"),
        (["--rate-limit", "300"], "'300' is not a rate limit"),
        (["--rate-limit", "0/60"], "'0/60' would let nothing through"),
        (["--max-body", "big"], "'big' is not a size"),
        (["--token-lifetime", "-1"], "'-1' is not a duration"),
        (["--script", "/nowhere"], "'/nowhere' does not exist"),
        (["--script", __file__], "the script is not a list of rules"),
        (["--port", "70000"], "70000 is not in the range"),
        (["--webhook-secret", "whsec_Zm9v"], "a webhook secret has 3 bytes, and 16 to 64 are expected"),
        (["--hook-status", "500"], "'500' is not one of '200', '204'"),
    ],
)
def test_wrong_options_are_said_in_one_line(options: list[str], said: str) -> None:
    result = CliRunner().invoke(sandbox, options)
    assert result.exit_code == 2
    assert said in result.output.splitlines()[-1]


def test_help_names_every_fault_there_is() -> None:
    (shown,) = [str(o.help) for o in sandbox.params if isinstance(o, click.Option) and o.name == "faults"]
    kinds = {*faults._KINDS, *faults._EVENT_SCOPES, *faults._CONTROL_SCOPES}
    assert len(kinds) > 10
    assert [kind for kind in kinds if not re.search(rf"\b{kind}:[01]", shown)] == []


def options_of(*words: str) -> SandboxOptions:
    given: dict[str, Any] = sandbox.make_context("sandbox", list(words)).params
    return command._options(**{k: v for k, v in given.items() if k not in ("host", "port", "quiet")})


def test_the_options_of_webhooks_and_conversations_reach_the_sandbox() -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    options = options_of(
        *("--webhook-secret", secret, "--webhook-token", "one", "--webhook-token", "two"),
        *("--require-handshake", "--hook-status", "204", "--no-communication-states"),
    )
    assert options == SandboxOptions(
        faults=(),
        webhook_secrets=(secret,),
        webhook_tokens=("one", "two"),
        handshake_required=True,
        hook_status=204,
        communication_states=False,
    )
    assert options_of() == SandboxOptions(), "the defaults of the command are those of the sandbox"


def test_an_address_in_use_is_a_user_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = CliRunner().invoke(sandbox, ["--port", str(taken.getsockname()[1]), "--schema", "none"])
    assert isinstance(result.exception, UserError)
    assert "cannot listen on 127.0.0.1" in str(result.exception)


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'aiohttp', 'anyio', 'msgspec', 'pydantic'}"
    code = f"import sys, ingestd.cli.sandbox; print({heavy} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"
