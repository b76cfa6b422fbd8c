"""``ingestd sandbox``: a local fake of the event APIs, with fault injection. Loaded by main.py."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ingestd.sandbox.apis.ingest import SandboxOptions

MAX_SCRIPT_BYTES = 2**20


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8700, show_default=True, type=click.IntRange(0, 65535), help="0 takes any free port."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND:RATE",
    help="What goes wrong, and how often: 429:0.05, 503:0.02:30 (Retry-After), cut:0.01, cut-before:0.01, "
    "slow:0.1:2s, partial:0.1, garbage:0.01, expire:0.01, token-503:0.5, token-throttle:0.1, "
    "token-region:1, skew:1:20m (the clock is ahead), no-permission:1; of single "
    "events event-retry:0.1, event-dead:0.01; of what became of published ones status-fail:0.1, "
    "status-stuck:0.1, status-late:0.1:5s, status-hidden:0.1:300ms; handshake-refuse:1; of resources "
    "verify-fail:1, verify-timeout:1, verify-odd:1, health-fail:1, integration-error:1, "
    "create-hidden:1:300ms, version-conflict:1. Repeatable.",
)
@click.option(
    "--script",
    type=click.Path(exists=True, dir_okay=False),
    help='What happens to which request, as a JSON list: [{"match":{"path":"/api/v2/events/ingest","nth":3},'
    '"answer":{"status":503,"headers":{"Retry-After":"2"},"body":""},"take":false}]; also "cut", "delay".',
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same faults.")
@click.option("--latency", default="0ms", show_default=True, help="Wait before every answer, such as 20ms.")
@click.option(
    "--rate-limit", metavar="N/SECONDS", help="Requests per window and token, such as 300/60 or 300/1m."
)
@click.option(
    "--max-body", default="1000000", show_default=True, help="Largest body, in bytes or like 500kB."
)
@click.option("--client-id", default="sandbox", show_default=True)
@click.option(
    "--client-secret",
    default="sandbox",
    envvar="INGESTD_SANDBOX_CLIENT_SECRET",
    show_envvar=True,
    help="Prefer the environment variable: other users can see a command line.  [default: sandbox]",
)
@click.option("--token-lifetime", default="1h", show_default=True, help="How long an access token is valid.")
@click.option(
    "--schema",
    default="interaction",
    show_default=True,
    help="What a valid event is: interaction, cloudevent, a JSON Schema file, or none.",
)
@click.option(
    "--partial", is_flag=True, help="Accept the valid events of a batch, and name the others in the answer."
)
@click.option(
    "--webhook-secret",
    "webhook_secrets",
    multiple=True,
    metavar="whsec_…",
    envvar="INGESTD_SANDBOX_WEBHOOK_SECRET",
    show_envvar=True,
    help="Webhooks must be signed with it (Standard Webhooks). Repeatable.",
)
@click.option(
    "--webhook-token",
    "webhook_tokens",
    multiple=True,
    default=("sandbox",),
    show_default=True,
    help="Of /api/v2/integrations/webhooks/TOKEN/events. Repeatable.",
)
@click.option(
    "--require-handshake",
    is_flag=True,
    help="Webhooks: refuse an origin that did not ask first, by the CloudEvents handshake.",
)
@click.option(
    "--hook-status",
    type=click.Choice(["200", "204"]),
    default="200",
    show_default=True,
    help="Status of the answer to an accepted webhook.",
)
@click.option(
    "--no-communication-states",
    is_flag=True,
    help="Conversation events: also accept events before a communication is established or after its end.",
)
@click.option("--tls", is_flag=True, help="Serve HTTPS with a new certificate of its own (needs openssl).")
@click.option("--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate.")
@click.option("--tls-key", metavar="FILE", help="The key of --tls-cert.")
@click.option("--quiet", is_flag=True, help="No summary at the end.")
def sandbox(
    *,
    host: str,
    port: int,
    tls: bool,
    tls_cert: str | None,
    tls_key: str | None,
    quiet: bool,
    **settings: Any,
) -> None:
    """Serve a local fake of the event APIs, with fault injection.

    Speaks their contracts strictly: OAuth2, sizes, schemas, idempotency keys, signatures. These APIs:

    \b
      POST /api/v2/events/ingest                        sink ingest_api
      POST /api/v2/eventbridge/events, GET …/{id}       sink cloudevents, and what became of an event
      POST /api/v2/events/conversations, …              sink genesys_events
      POST /api/v2/journey/externalevents/…             sink journey_events
      POST /api/v2/integrations/webhooks/TOKEN/events   sink webhook
      POST /hooks/ANYTHING                              sink webhook
      targets, destinations, subscriptions, …           plan and apply

    GET /_sandbox/stats says what arrived, GET /_sandbox/events?path=PATH shows it. Ctrl-C ends it.
    """
    import tempfile

    import anyio

    from ingestd.app import early_signals
    from ingestd.sandbox.tls import make_certificate

    try:
        options = _options(tls=tls, tls_cert=tls_cert, tls_key=tls_key, **settings)
    except ValueError as reason:
        raise click.UsageError(str(reason)) from None
    early_signals.give_back_interrupt()
    with tempfile.TemporaryDirectory() as directory:
        files = (tls_cert, tls_key) if tls_cert and tls_key else None
        if tls:
            files = make_certificate(Path(directory))
        serve = partial(_serve, options, host, port, quiet, files, shown=tls)
        anyio.run(serve, backend="asyncio", backend_options={"use_uvloop": True})


def _options(
    *,
    faults: tuple[str, ...],
    script: str | None,
    seed: int,
    latency: str,
    rate_limit: str | None,
    max_body: str,
    client_id: str,
    client_secret: str,
    token_lifetime: str,
    schema: str,
    partial: bool,
    webhook_secrets: tuple[str, ...],
    webhook_tokens: tuple[str, ...],
    require_handshake: bool,
    hook_status: str,
    no_communication_states: bool,
    tls: bool = False,
    tls_cert: str | None = None,
    tls_key: str | None = None,
) -> "SandboxOptions":
    """Raises ValueError, in words for the person who typed it."""
    from ingestd.core.units import seconds, size
    from ingestd.sandbox.apis.ingest import SandboxOptions
    from ingestd.sandbox.apis.signatures import read_secret
    from ingestd.sandbox.faults import parse_faults, parse_script
    from ingestd.sandbox.tokens import parse_rate_limit

    if bool(tls_cert) != bool(tls_key) or (tls and tls_cert):
        raise ValueError("give --tls-cert and --tls-key, or --tls")
    for secret in webhook_secrets:
        read_secret(secret)
    return SandboxOptions(
        faults=parse_faults(faults),
        rules=parse_script(_read_script(script)) if script else (),
        seed=seed,
        latency_s=seconds(latency),
        rate_limit=parse_rate_limit(rate_limit) if rate_limit else None,
        max_body_bytes=size(max_body),
        client_id=client_id,
        client_secret=client_secret,
        token_lifetime_s=seconds(token_lifetime),
        schema=None if schema == "none" else schema,
        partial=partial,
        webhook_secrets=webhook_secrets,
        webhook_tokens=webhook_tokens,
        handshake_required=require_handshake,
        hook_status=int(hook_status),
        communication_states=not no_communication_states,
    )


def _read_script(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_SCRIPT_BYTES + 1)
    except OSError as reason:
        raise ValueError(f"cannot read {path}: {reason.strerror}") from None
    if len(content) > MAX_SCRIPT_BYTES:
        raise ValueError(f"{path} is larger than {MAX_SCRIPT_BYTES} bytes")
    return content


async def _serve(
    options: "SandboxOptions",
    host: str,
    port: int,
    quiet: bool,
    files: tuple[str, str] | None,
    *,
    shown: bool,
) -> None:
    """``files``: certificate and key; ``shown``: a person has to be told which certificate to trust."""
    import signal

    import anyio

    from ingestd.core.units import counted
    from ingestd.sandbox.server import INGEST_PATH, Sandbox
    from ingestd.sandbox.tls import server_context

    tls = server_context(*files) if files else None
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with Sandbox(options).serve(host, port, tls) as running:
            trust = f" --cacert {files[0]}" if files and shown else ""
            example = f"curl -s{trust} {running.url}/_sandbox/stats"
            click.echo(f"sandbox at {running.url}  tokens at {running.token_url}  try: {example}")
            sys.stdout.flush()
            await anext(signals)
    if not quiet:
        stats = running.sandbox.stats()
        click.echo(
            f"{counted(stats.events, 'event')} in {counted(stats.batches, 'batch', 'batches')}, "
            f"{counted(stats.duplicates, 'of them a duplicate', 'of them duplicates')}; "
            f"{counted(stats.requests, 'request')}, {counted(stats.replays, 'replay')}, "
            f"{counted(sum(stats.faults.values()), 'fault')}",
            err=True,
        )
        for path, one in stats.paths.items():
            if one.events and path != INGEST_PATH:
                summary = (
                    f"{counted(one.events, 'event')}, "
                    f"{counted(one.duplicates, 'of them a duplicate', 'of them duplicates')}; "
                    f"{counted(one.requests, 'request')}"
                )
                click.echo(f"{path}: {summary}", err=True)
