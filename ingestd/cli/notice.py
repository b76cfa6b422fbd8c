"""What a command tells a person beside its output: one line on standard error, without secrets."""

import click

from ingestd.core.redaction import redact


def notice(message: object) -> None:
    click.echo(f"ingestd: {redact(str(message))}", err=True)
