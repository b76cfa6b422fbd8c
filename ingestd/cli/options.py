"""Options that several commands share, and how they become settings."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

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


token_option = click.option("--token-file", metavar="FILE", help="Console token [$INGESTD_CONSOLE_TOKEN].")


def admin_options(command: F) -> F:
    """``[URL] --token-file``: a running service."""
    for option in (
        token_option,
        click.argument("url", required=False, default="http://127.0.0.1:9464"),
    ):
        command = option(command)
    return command


def state_options(command: F) -> F:
    """``--state-dir --config --sandbox``: of these the command gets one ``state_dir``, or None."""

    @wraps(command)
    def placed(*args: Any, state_dir: str | None, config_file: str | None, **rest: Any) -> Any:
        from ingestd.app.state_place import place

        return command(*args, state_dir=state_dir or place(None, config_file, sandbox=False), **rest)

    return cast("F", state_and_config(placed))


def spool_options(command: F) -> F:
    """``--state-dir --config --sandbox``, for a command that also knows a spool on NATS: where that is
    configured it gets ``settings``, else None."""

    @wraps(command)
    def placed(*args: Any, state_dir: str | None, config_file: str | None, **rest: Any) -> Any:
        from ingestd.app.state_place import place

        settings = None
        if config_file or os.environ.get("INGESTD_SPOOL_KIND"):
            from ingestd.config import load

            settings = load(config_file, {})
        if settings and settings.spool.kind == "nats" and not state_dir:
            return command(*args, state_dir=None, settings=settings, **rest)
        state_dir = state_dir or place(None, config_file, sandbox=False)
        return command(*args, state_dir=state_dir, settings=None, **rest)

    return cast("F", state_and_config(placed))


def state_and_config(command: F) -> F:
    """The same, for a command that reads the configuration itself: it gets ``config_file``, too."""

    @wraps(command)
    def placed(*args: Any, state_dir: str | None, config_file: str | None, sandbox: bool, **rest: Any) -> Any:
        from ingestd.app.state_place import place

        if sandbox:
            state_dir = place(state_dir, config_file, sandbox=True)
        return command(*args, state_dir=state_dir, config_file=config_file, **rest)

    for option in (
        click.option("--sandbox", is_flag=True, help="What the last `replay --sandbox` left."),
        click.option(
            "--config", "config_file", metavar="FILE", help="TOML configuration: its state directory."
        ),
        click.option("--state-dir", metavar="DIR", help="The directory that the replay or the service uses."),
    ):
        placed = option(placed)
    return cast("F", placed)


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
        "layout": ("source", "format"),
        "delimiter": ("source", "delimiter"),
        "unwrap": ("source", "unwrap"),
        "keep_going": ("source", "keep_going"),
        "max_rejected": ("source", "max_rejected"),
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
