"""What ``ingestd publish`` does once its words are parsed: where the event goes, how its fate is told."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import anyio
import click

from ingestd.app import early_signals
from ingestd.app.publish.event import Words, check_event, make_event, read_input
from ingestd.app.publish.publication import Publication, PublishedEvent, PublishOutcome
from ingestd.app.publish.target import connect, find_question, find_section, needs_api, takes_cloudevents
from ingestd.cli.login import login_by_hand
from ingestd.cli.options import overrides
from ingestd.cli.say import say
from ingestd.config import load
from ingestd.core import units
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.wiring.sink_factory import make_sink

_SAME = "the same event again has"


def run_publish(
    given_event: str | None,
    words: Words,
    api: Mapping[str, Any],
    *,
    wait: str | None,
    sink_name: str | None,
    sandbox: bool,
    config_file: str | None,
    as_json: bool,
) -> int:
    """The exit code. Raises UserError for what could not even begin."""
    try:
        wait_s = None if wait is None else units.seconds(wait)
    except ValueError as error:
        raise UserError(f"--wait: {error}") from None
    given = {name: value for name, value in api.items() if not (sandbox and name in ("api", "token_url"))}
    settings = load(config_file, overrides(**given))
    section = find_section(settings, sink_name)
    words = words.completed()
    event = make_event(words) if given_event is None else read_input(given_event)
    check_event(event, cloudevent=takes_cloudevents(section))
    login = login_by_hand(settings.api, api, sandbox=sandbox) if needs_api(section) or sandbox else None
    sink = make_sink(sink_name or "cloudevents", section, login, settings.batch, SystemClock.wall)
    question = None if wait_s is None else find_question(section, login)
    tell = _tell if sys.stderr.isatty() and not as_json else _say_nothing
    publication = Publication(sink, SystemClock(), tell)

    async def session() -> None:
        async with connect(settings, section, login) as (sender, asker):
            await publication.send(event, sender)
            if publication.fate.outcome is PublishOutcome.ACCEPTED and not as_json:
                click.echo(accepted_line(publication.fate))
            if publication.fate.outcome is PublishOutcome.ACCEPTED and question and wait_s is not None:
                await publication.follow(*question, asker, within_s=wait_s)

    interrupted = False
    early_signals.give_back_interrupt()
    try:
        anyio.run(session, backend_options={"use_uvloop": True})
    except KeyboardInterrupt:
        interrupted = True
    again = f"the same words with --id {words.id} --time {words.time} have" if given_event is None else _SAME
    _show(publication.fate, f"{again} the same key", as_json=as_json, interrupted=interrupted)
    return 130 if interrupted else publication.fate.exit_code


# --- where to ---


# --- what is told ---


def accepted_line(fate: PublishedEvent) -> str:
    tries = f" at attempt {fate.attempts}" if fate.attempts > 1 else ""
    key = f", key {fate.key}" if fate.key else ""
    status = "409: it has it already" if fate.status == 409 else str(fate.status)
    return f"accepted   {fate.id or '(the API gave no id)'}  ({status}{tries}{key})"


def _show(fate: PublishedEvent, again: str, *, as_json: bool, interrupted: bool) -> None:
    if as_json:
        click.echo(
            json.dumps({**asdict(fate), "seconds": round(fate.seconds, 3), "interrupted": interrupted})
        )
    elif interrupted:
        say(f"interrupted: {_known(fate, again)}")
    elif fate.outcome is PublishOutcome.DELIVERED:
        click.echo(f"delivered  {fate.id}  (after {units.human_seconds(fate.seconds)})")
    elif fate.outcome is not PublishOutcome.ACCEPTED:
        perhaps = fate.maybe_taken and fate.outcome is PublishOutcome.UNAVAILABLE
        more = f"; it may have been taken: {again}" if perhaps else ""
        say(f"{fate.outcome.replace('_', ' ')}: {fate.detail}{more}")


def _known(fate: PublishedEvent, again: str) -> str:
    if fate.outcome is PublishOutcome.UNSENT:
        return "nothing was sent"
    if fate.outcome is PublishOutcome.ACCEPTED:
        return f"accepted as {fate.id or 'an event without an id'}; what became of it is not known"
    return f"it is not known whether the API has taken it; {again}"


def _tell(message: str) -> None:
    say(message)


def _say_nothing(message: str) -> None:
    """Retries are for those who look on."""
