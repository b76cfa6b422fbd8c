"""``ingestd run``: parse, and call ``app/run.py``."""

import click

from ingestd.cli.options import api_options, common_options, overrides


@click.command()
@click.option("--listen", metavar="ADDR", help="Where producers post, e.g. 0.0.0.0:8080 (127.0.0.1:8080).")
@click.option("--admin-listen", metavar="ADDR", help="Metrics, health and status (127.0.0.1:9464).")
@api_options
@common_options
@click.option("--max-in-flight", type=int, metavar="N", help="Most requests to the API at the same time [5].")
@click.option("--edge", is_flag=True, help="Only take events, for a spool on NATS: no sinks needed.")
@click.option("--worker", is_flag=True, help="Only deliver, from a spool on NATS: nothing listens.")
@click.option("--log-format", type=click.Choice(["auto", "json", "text"]), help="auto: text on a terminal.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="(info)")
@click.pass_context
def run(ctx: click.Context, /, config_file: str | None, edge: bool, worker: bool, **given: object) -> None:
    """Take events over HTTP, keep them on disk, and get every one of them to the event API.

    A producer that is answered 202 may forget its events: they are in the spool, and go out as fast as
    the API allows, through outages and restarts.

    \b
    Examples:
      ingestd run --config /etc/ingestd/ingestd.toml
      ingestd run --api http://127.0.0.1:8700 --no-auth --state-dir /tmp/spool
      curl -d @event.json -H 'Content-Type: application/json' http://127.0.0.1:8080/v1/events
      curl http://127.0.0.1:9464/v1/status

    \b
    SIGTERM drains and ends with 0; a second one ends at once (130). SIGHUP reads the configuration again.
    """
    from ingestd.app.start import serve_until_signal
    from ingestd.config import ConfigFile

    if edge and worker:
        raise click.UsageError("--edge --worker is what a plain run is: leave both away.")
    ctx.exit(serve_until_signal(ConfigFile(config_file, overrides(**given)), edge=edge, worker=worker))
