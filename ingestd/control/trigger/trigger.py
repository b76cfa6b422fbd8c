"""Process automation triggers: a topic and criteria on one side, a workflow on the other. One kind of
``resource.py``. Source: Genesys Cloud Platform SDK, ``ProcessAutomationApi``.
"""

from typing import Any, ClassVar

from ingestd.control.engine.compare import canonical
from ingestd.control.engine.plain_kind import FieldPlace, PlainKind
from ingestd.control.engine.resource import ResourceFields, Wanted
from ingestd.control.trigger.table import OPERATORS, TriggerTable

PATH = "/api/v2/processautomation/triggers"
PAGE_SIZE = 200
WORKFLOW_PLACES = {
    "workflow_id": FieldPlace("target.id"),
    "data_format": FieldPlace("target.workflowTargetSettings.dataFormat", "TopLevelPrimitives"),
    "description": FieldPlace("description"),
    "enabled": FieldPlace("enabled", default=False),
}


class Trigger(PlainKind):
    """``[trigger.NAME]``: ``topic_name``, ``workflow_id``, ``data_format``, ``match_criteria``,
    ``event_ttl_seconds`` or ``delay_by_seconds``, ``description``, ``enabled`` (true)."""

    name = "trigger"
    path = PATH
    table = TriggerTable
    places: ClassVar = {
        "topic_name": FieldPlace("topicName"),
        **WORKFLOW_PLACES,
        "match_criteria": FieldPlace("matchCriteria", []),
        "event_ttl_seconds": FieldPlace("eventTTLSeconds", None, number=True),
        "delay_by_seconds": FieldPlace("delayBySeconds", None, number=True),
    }
    fixed: ClassVar = {"target.type": "Workflow"}
    params: ClassVar = {"pageSize": PAGE_SIZE}
    immutable = frozenset({"topic_name"})
    noted = "TRIGGER"

    def canonical(self, fields: dict[str, Any]) -> ResourceFields:
        return fields | {"match_criteria": _criteria(fields["match_criteria"])}

    def body(self, wanted: Wanted) -> dict[str, Any]:
        criteria = [
            {"jsonPath" if name == "json_path" else name: value for name, value in one.items()}
            for one in wanted.fields["match_criteria"]
        ]
        return super().body(wanted) | {"matchCriteria": criteria}


def _criteria(criteria: list[Any]) -> list[dict[str, Any]]:
    """All have to match, so their order means nothing; neither does that of ``values``, as far as we know the
    operator."""
    plain = []
    for one in criteria:
        if not isinstance(one, dict):
            continue
        kept = {_SNAKE.get(name, name): value for name, value in one.items() if value is not None}
        if isinstance(kept.get("values"), list) and kept.get("operator") in OPERATORS:
            kept["values"] = _sorted_set(kept["values"])
        plain.append(kept)
    return _sorted_set(plain)


def _sorted_set(values: list[Any]) -> list[Any]:
    by_text = {canonical(value): value for value in values}
    return [by_text[key] for key in sorted(by_text)]


_SNAKE = {"jsonPath": "json_path"}
