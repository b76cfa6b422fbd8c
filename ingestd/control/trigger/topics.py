"""Whether the platform has the topics that triggers and integrations ask for. Called for a plan.

Source: Genesys Cloud Platform SDK, ``ProcessAutomationApi.get_processautomation_triggers_topics`` and
``NotificationsApi.get_notifications_availabletopics``: each kind has topics of its own.
"""

from collections.abc import Iterable, Iterator, Sequence

from ingestd.control.engine.resource import Context, Wanted
from ingestd.control.trigger.trigger import PATH
from ingestd.core.errors import Unreachable, UserError
from ingestd.core.text import cut, did_you_mean
from ingestd.transport.api_client import ApiError

LISTS = {"trigger": f"{PATH}/topics", "integration": "/api/v2/notifications/availabletopics"}


async def find_unknown(context: Context, wanted: Sequence[Wanted]) -> list[str]:
    """A line for each topic that is not there. What cannot be asked (another API, no permission) is not."""
    lines: list[str] = []
    for kind, path in LISTS.items():
        ours = [one for one in wanted if one.kind == kind]
        if not ours:
            continue
        try:
            listed = await context.api.list(path, params={"pageSize": 200} if kind == "trigger" else None)
        except (ApiError, UserError, Unreachable):
            continue
        known = {one.get("id") if isinstance(one, dict) else one for one in listed}
        lines += _unknown(ours, {one for one in known if isinstance(one, str)})
    return lines


def _unknown(wanted: Iterable[Wanted], known: set[str]) -> Iterator[str]:
    for one in wanted:
        topics = [one.fields["topic_name"]] if one.kind == "trigger" else one.fields["event_filter"]
        for topic in topics:
            if known and topic not in known:
                close = did_you_mean(topic, known)
                hint = f": did you mean {cut(close)}?" if close else ""
                yield f"{one.kind} {cut(one.name, 80)}: the platform has no topic {cut(topic)}{hint}"
