"""``ingestd sandbox`` as a process of its own, and what it says to wrong options."""

import base64
import re
import socket
from typing import Any

import click
from click.testing import CliRunner

from ingestd.cli import sandbox as command
from ingestd.cli.sandbox import sandbox
from ingestd.core.errors import UserError
from ingestd.sandbox import faults
from ingestd.sandbox.apis.ingest import SandboxOptions
from tests.each import each


@each(
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
        (["--tls-cert", "x"], "give --tls-cert and --tls-key, or --tls"),
        (["--tls", "--tls-cert", "x", "--tls-key", "y"], "give --tls-cert and --tls-key, or --tls"),
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
