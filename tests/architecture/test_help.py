"""What a command imports: for its help nothing heavy, and else what it needs."""

import ast
import statistics
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.store.connection import FILE_NAME, connect
from ingestd.store.new_letters import insert_letters
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
    for _ in range(3):
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "replay" in shown.stdout
        loaded, _, spent = shown.stderr.strip().rpartition(" ")
        assert loaded == "[]"
        seconds.append(float(spent))
    assert statistics.median(seconds) < patience(0.2)


def test_the_help_of_a_command_imports_no_network() -> None:
    code = """
import sys
from ingestd.cli.group import cli
for command in ("replay", "check", "config", "dlq", "targets", "plan", "apply"):
    cli.main([command, "--help"], standalone_mode=False)
    assert not {"aiohttp", "httpx", "pydantic", "uvloop"} & set(sys.modules), command
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


HEAVY = {
    *(
        "aiohttp",
        "aiosqlite",
        "anyio",
        "asyncio",
        "botocore",
        "httpx",
        "jsonschema_rs",
        "msgspec",
        "prometheus_client",
    ),
    *(
        "email",
        "http.client",
        "importlib.resources",
        "statistics",
        "ingestd.lake.lake",
        "ingestd.httpd.request",
    ),
    *("pyarrow", "pydantic", "rich", "ssl", "tomlkit", "uvloop"),
    *("aiohttp.web", "ingestd.processing.patterns", "ingestd.sinks.cloudevents", "ingestd.sinks.webhook"),
    "ingestd.sinks.lake",
    *("encodings.utf_32_le", "shlex", "sqlite3.dump"),
    *("ingestd.delivery.status_poller", "ingestd.intake.admission", "ingestd.intake.spool_feed"),
    *("ingestd.processing.transforms.fields", "ingestd.schemas.key_doubts"),
    *("ingestd.sources.files.salvage", "ingestd.telemetry.tap", "ingestd.telemetry.watchdog"),
    *(f"ingestd.sources.{kind}.settings" for kind in ("genesys", "kafka", "live", "sqs")),
    *("ingestd.transport.oauth", "ingestd.transport.proxies", "ingestd.transport.webhook_handshake"),
    *("ingestd.transport.webhook_signature", "ingestd.wiring.pipeline"),
    *("ingestd.core.redaction", "ingestd.delivery.lane", "ingestd.sinks.registry"),
    *("click", "datetime", "json", "pathlib", "urllib.parse"),
}


SENDING = {
    *("asyncio", "msgspec", "ssl", "uvloop"),
    *("ingestd.delivery.lane", "ingestd.wiring.pipeline"),
}
LINE = {"click", "datetime"}
"""To read a command line that is not plain; click imports the other one."""
PATHS = {"pathlib", "urllib.parse"}
"""The first imports the other one, before Python 3.13."""
STATE = {*LINE, *PATHS, "ingestd.core.redaction", "json"}
"""To read a state file and to print of it: nothing may show a secret."""
EXITS = {"replay": 2, "where": 3}
"""Of a file that is missing, by which time all is imported; of an event that is not known."""


@each(
    ("words", "loaded"),
    [
        ("--version", set()),
        ("--help", LINE),
        ("completion bash", LINE | ({"pathlib"} if sys.version_info >= (3, 13) else PATHS)),
        (
            "dlq list --state-dir {state}; dlq list --group --state-dir {state};"
            "dlq show 1 --payload --state-dir {state}; dlq export --state-dir {state}",
            STATE,
        ),
        ("config show; config show --state-dir {state}", {"ingestd.core.redaction"}),
        ("config show --json", {"ingestd.core.redaction", "json"}),
        ("spool stat --state-dir {state}; spool check --state-dir {state}", STATE | {"msgspec"}),
        (
            "config show --config {state}/one.toml",
            STATE - {"click", "pathlib"} | {"ingestd.sinks.registry", "ingestd.sinks.webhook", "msgspec"},
        ),
        ("where key --state-dir {state}", STATE | {"asyncio", "msgspec", "ssl"}),
        ("replay {state}/no --api http://127.0.0.1:9 --no-auth --quiet --state-dir {state}", STATE | SENDING),
    ],
)
def test_a_command_loads_no_more_of_what_is_heavy_than_it_needs(
    tmp_path: Path, words: str, loaded: set[str]
) -> None:
    """Start-up is most of what a short command costs. ``words``: commands, one after the other."""
    (tmp_path / "one.toml").write_text('[sinks.one]\ntype = "webhook"\nurl = "http://127.0.0.1:9/"\n')
    letter = DeadLetter(b"{}", Reason.INVALID, "no event", 1, 0, 1)
    with closing(connect(tmp_path / FILE_NAME)) as connection:
        insert_letters(connection, [letter], 0.0)
    code = f"""
import os, sys
before = set(sys.modules)  # where it is installed for development the interpreter itself loads more
from ingestd.cli.main import main
os._exit = sys.exit  # it ends the process at once
codes = []
for words in sys.argv[1].split(";"):
    sys.argv = ["ingestd", *words.split()]
    try:
        main()
    except SystemExit as end:
        codes.append(end.code or 0)
    else:
        codes.append(0)
print([sorted({HEAVY} & some) for some in (set(sys.modules), before)], file=sys.stderr)
sys.exit(max(codes))
"""
    command = [sys.executable, "-c", code, words.format(state=tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = EXITS.get(words.split()[0], 0)
    found, before = map(set, ast.literal_eval(done.stderr.splitlines()[-1]))
    assert (done.returncode, found - (before - loaded)) == (expected, loaded)


def test_aiohttp_has_those_of_the_system_when_it_first_connects_and_reads_none_before() -> None:
    code = """
import os, ssl
usual, before = ssl.create_default_context, dict(os.environ)
import ingestd.app.run, ingestd.sandbox.server
from aiohttp.connector import _SSL_CONTEXT_UNVERIFIED as other, _SSL_CONTEXT_VERIFIED as context
assert (ssl.create_default_context, dict(os.environ)) == (usual, before)
assert context.cert_store_stats()["x509"] == 0, "read too early"
assert other.cert_store_stats()["x509"] == 0, "read, and it asks for no certificate"
other.set_default_verify_paths()
assert other.cert_store_stats() == usual().cert_store_stats()
context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
assert context.cert_store_stats() == usual().cert_store_stats()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
