"""Options that several commands share, and how they become settings."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_API_OPTIONS = [
    click.option("--api", metavar="URL", help="Base of the API, e.g. https://api.mypurecloud.com."),
    click.option("--region", metavar="NAME", help="AWS region or Genesys domain; gives API and login host."),
    click.option("--token-url", metavar="URL", help="Where the OAuth2 client-credentials token comes from."),
    click.option("--no-auth", is_flag=True, default=None, help="Send without a token."),
]

_COMMON_OPTIONS = [
    click.option(
        "--schema",
        "schema_name",
        metavar="SCHEMA",
        help="interaction (default), cloudevent, a JSON Schema file, or package.module:Model.",
    ),
    click.option(
        "--format-assertion/--no-format-assertion",
        default=None,
        help="JSON Schema: check format in every draft (default), or as the draft says.",
    ),
    click.option("--dedup-key", metavar="A,B.c", help="JSON paths that make an event the same as another."),
    click.option("--state-dir", metavar="DIR", help="Checkpoints, window and dead letters."),
    click.option("--config", "config_file", metavar="FILE", help="TOML configuration."),
]


def api_options(command: F) -> F:
    """``--api --region --token-url --no-auth``."""
    for option in reversed(_API_OPTIONS):
        command = option(command)
    return command


def common_options(command: F) -> F:
    """``--schema --format-assertion --dedup-key --state-dir --config``."""
    for option in reversed(_COMMON_OPTIONS):
        command = option(command)
    return command


def admin_options(command: F) -> F:
    """``[URL] --token-file``: a running service."""
    for option in (
        click.option("--token-file", metavar="FILE", help="Console token [$INGESTD_CONSOLE_TOKEN]."),
        click.argument("url", required=False, default="http://127.0.0.1:9464"),
    ):
        command = option(command)
    return command


def overrides(**given: Any) -> dict[tuple[str, str], Any]:
    """Command-line values by (section, field) of the configuration; None where not given."""
    places = {
        "api": ("api", "url"),
        "region": ("api", "region"),
        "token_url": ("api", "token_url"),
        "no_auth": ("api", "no_auth"),
        "schema_name": ("schema", "name"),
        "dedup_key": ("schema", "dedup_key"),
        "format_assertion": ("schema", "format_assertion"),
        "state_dir": ("state", "dir"),
        "max_batch_bytes": ("batch", "max_bytes"),
        "max_batch_events": ("batch", "max_events"),
        "max_in_flight": ("delivery", "max_in_flight"),
        "give_up_after": ("delivery", "give_up_after"),
        "max_window": ("source", "max_window"),
        "items": ("source", "items"),
        "metrics_port": ("metrics", "port"),
        "listen": ("ingest", "listen"),
        "admin_listen": ("admin", "listen"),
        "log_format": ("log", "format"),
        "log_level": ("log", "level"),
        "audit_log": ("audit", "file"),
    }
    if given.get("api") and given.get("region"):
        raise click.UsageError("Use either --api or --region, not both.")
    return {place: given.get(name) for name, place in places.items() if name in given}
