"""Which dead letters a command is about: the options that several of ``ingestd dlq`` share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ingestd.cli.options import F
from ingestd.core.reasons import Reason

FILTERS = ("sink", "reason", "fingerprint", "event_id", "event_type", "producer", "text", "older", "newer")


def letter_filters(command: F) -> F:
    """The options of FILTERS."""
    for option in reversed(
        [
            click.option(
                "--sink", metavar="NAME", help="Letters of this sink; -: of events rejected before routing."
            ),
            click.option(
                "--reason",
                type=click.Choice([reason.value for reason in Reason]),
                help="Letters with this reason.",
            ),
            click.option("--fingerprint", metavar="TEXT", help="Letters whose group begins with this."),
            click.option("--event-id", metavar="ID", help="Letters of this event: its id or interactionId."),
            click.option("--event-type", metavar="NAME", help="Letters of events of this type or eventType."),
            click.option("--producer", metavar="NAME", help="Letters of events that this producer sent."),
            click.option("--text", metavar="TEXT", help="Letters with this in the event or in the answer."),
            click.option("--older", metavar="TIME", help="Last failed at least this long ago, e.g. 2h."),
            click.option("--newer", metavar="TIME", help="Last failed at most this long ago, e.g. 10m."),
        ]
    ):
        command = option(command)
    return command


letter_state = click.option(
    "--state",
    type=click.Choice(["waiting", "delivered", "all"]),
    default="waiting",
    show_default=True,
    help="Present state of the letters.",
)


@contextmanager
def letters_directory(state_dir: str | None, settings: Any, where: Any = None) -> Iterator[str | None]:
    """Where the letters are; those of a spool on NATS for as long as they are looked at."""
    if not settings:
        yield state_dir
        return
    from ingestd.app.cluster.letters import snapshot
    from ingestd.app.cluster.server_at_hand import at_hand

    with at_hand(settings), snapshot(settings, where) as directory:
        yield str(directory)
