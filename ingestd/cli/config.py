"""``ingestd config``: what is set, where it comes from, and what can be set."""

from typing import Any

import click

from ingestd.cli.check import listen_options
from ingestd.cli.options import api_options, common_options, overrides


@click.group(short_help="Show the effective settings, or what can be set.")
def config() -> None:
    """The effective settings with their origin, and the JSON Schema of the file.

    \b
    Examples:
      ingestd config show --config /etc/ingestd.toml
      ingestd config show --config /etc/ingestd.toml | grep -v '# default'   what was changed
      ingestd config schema > ingestd.schema.json                            for an editor
    """


@config.command(short_help="Print every setting as TOML, with where it came from.")
@api_options
@common_options
@listen_options
@click.option("--json", "as_json", is_flag=True, help="Print settings and origins as JSON.")
def show(config_file: str | None, as_json: bool, **given: Any) -> None:
    """Print every setting as TOML, each with where it came from: default, file, environment, command line.

    Secrets are masked (***). In the environment a setting is INGESTD_SECTION_FIELD, for example
    INGESTD_BATCH_MAX_BYTES=1MB or INGESTD_INGEST_TLS_CERT_FILE=/etc/tls/tls.crt.
    """
    from ingestd.config.show import listing

    click.echo(listing(config_file, overrides(**given), in_json=as_json), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file.

    \b
    With the Even Better TOML extension or taplo, begin the file with
      #:schema ./ingestd.schema.json
    """
    import json

    from ingestd.config.settings import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
