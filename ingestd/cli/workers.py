"""``ingestd workers``: who is there on a spool on NATS, and who owns what of it."""

import json
import time
from typing import Any

import click


@click.command()
@click.option("--config", "config_file", metavar="FILE", help="TOML configuration.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def workers(config_file: str | None, as_json: bool) -> None:
    """Show who owns which partition of which sink, since when, and how much waits there.

    Listens for a moment to what edges and workers report: nobody keeps a list of them.
    """
    from ingestd.app.cluster import spool as app
    from ingestd.config import load

    found = app.workers(load(config_file, {}))
    if as_json:
        click.echo(json.dumps(found))
        return
    for member in found["members"]:
        state = ", leaving" if member["leaving"] else ""
        click.echo(f"{member['kind']:6} {member['name']} ({member['version']}{state})")
    if not found["members"]:
        click.echo("no edge and no worker has reported", err=True)
    if found["shares"]:
        from ingestd.cli.tables import print_table

        now = time.time()
        print_table(
            ("sink", "partition", "owner", "since", "chunks behind"),
            [_row(share, now) for share in found["shares"]],
        )


def _row(share: dict[str, Any], now: float) -> tuple[str, ...]:
    from ingestd.core.units import human_seconds

    owner = share["owner"] or "nobody"
    since = human_seconds(max(0.0, now - share["since"])) if share["owner"] else "-"
    return share["sink"], share["partition"], owner, since, str(share["lag_chunks"])
