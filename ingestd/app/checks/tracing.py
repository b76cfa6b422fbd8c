"""Whether traces can be made and sent. Sends none."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.config import Settings
from ingestd.core.address import is_loopback, show_url
from ingestd.transport.auth import read_secret


def check_tracing(settings: Settings) -> Iterator[Finding]:
    tracing = settings.tracing
    if not tracing.endpoint:
        return
    if tracing.wrong:
        yield fail("tracing", tracing.wrong)
        return
    for module in ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http"):
        if not _is_there(module):
            yield fail("tracing", "tracing.endpoint is set: traces need pip install 'ingestd[otel]'")
            return
    try:
        token = read_secret(tracing.token_file) if tracing.token_file else tracing.token.get_secret_value()
    except (OSError, ValueError) as error:
        yield fail("tracing", f"tracing.token_file cannot be read: {error}")
        return
    if tracing.ca_file and not Path(tracing.ca_file).is_file():
        yield fail("tracing", f"tracing.ca_file: there is no file {tracing.ca_file}")
        return
    yield ok(
        "tracing", f"traces go to {show_url(tracing.endpoint)}, {tracing.sample:.0%} of those that begin here"
    )
    host = tracing.endpoint.removeprefix("http://").partition("/")[0].partition(":")[0]
    if token and tracing.endpoint.startswith("http://") and not is_loopback(host):
        yield warn("tracing", "the token is sent unencrypted: give tracing.endpoint as https://")


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
