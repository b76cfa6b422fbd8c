"""What ``ingestd publish`` does."""

from collections.abc import Callable
from functools import partial

from ingestd.app.event_loop import run_loop
from ingestd.app.publish.event import check_event
from ingestd.app.publish.publication import Publication, PublishedEvent, PublishOutcome
from ingestd.app.publish.target import connect, find_question, find_section, takes_cloudevents
from ingestd.config import Login, Settings
from ingestd.core.clock import SystemClock, system_rng
from ingestd.wiring.factories import make_sink


def publish(
    event: bytes,
    settings: Settings,
    *,
    sink_name: str | None,
    find_login: Callable[[], Login],
    sandbox: bool,
    wait_s: float | None,
    report: Callable[[str], None],
    on_accepted: Callable[[PublishedEvent], None],
) -> PublishedEvent:
    """Send one event, and with ``wait_s`` ask what became of it. ``find_login`` is called where it is needed;
    ``report`` with why it takes longer. An interrupt ends it. Raises UserError for what cannot even begin."""
    if any(one.references for one in settings.sinks.values()):
        from ingestd.wiring.references import look_up

        settings = run_loop(partial(look_up, settings, find_login(), clock=SystemClock()))
    section = find_section(settings, sink_name)
    check_event(event, cloudevent=takes_cloudevents(section))
    login = find_login() if section.needs_api or sandbox else None
    sink = make_sink(sink_name or "cloudevents", section, login, settings.batch, SystemClock.wall)
    question = None if wait_s is None else find_question(section, login)
    publication = Publication(sink, SystemClock(), report, system_rng())
    result = publication.result

    async def session() -> None:
        async with connect(settings, section, login) as (sender, status_client):
            await publication.send(event, sender)
            if result.outcome is PublishOutcome.ACCEPTED:
                on_accepted(result)
                if question and wait_s is not None:
                    await publication.follow(*question, status_client, within_s=wait_s)

    try:
        run_loop(session)
    except KeyboardInterrupt:
        result.interrupted = True
    return result
