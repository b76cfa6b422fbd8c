"""What may stand in a table ``[trigger.NAME]``. Called by ``trigger.py``. Source of the rules: Genesys Cloud
Platform SDK, ``ProcessAutomationApi``, and the help page "Overview of triggers".
"""

import json
import logging
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from ingestd.control.engine.model_table import ModelTable
from ingestd.core.text import cut, did_you_mean

MAX_CRITERIA = 1000
MAX_DEPTH = 50

logger = logging.getLogger(__name__)

DataFormat = Literal["Json", "TopLevelPrimitives"]
OPERATORS = (
    *("Equal", "NotEqual", "In", "NotIn", "Contains", "All", "Exists", "Size"),
    *("GreaterThan", "GreaterThanOrEqual", "LessThan", "LessThanOrEqual"),
)
"""Those of the SDK, 269. The platform may have newer ones."""


def from_json(value: Any) -> Any:
    """A value as JSON text, for a null within it. Raises ValueError."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("expected it as it is, or as JSON text") from None


class Criterion(BaseModel):
    """``value`` and ``values`` are any JSON: what an operator makes of them is the platform's business, and
    so are fields that are newer than this."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    json_path: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$")]
    operator: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]
    value: Any = None
    values: list[Any] | None = None

    @model_validator(mode="after")
    def _check_value(self) -> "Criterion":
        if self.value is not None and self.values is not None:
            raise ValueError("either value or values, not both")
        given = [self.value, self.values, self.model_extra]
        if not _is_json(given, MAX_DEPTH):
            raise ValueError("value, values: expected what JSON can say")
        return self

    def warnings(self) -> list[str]:
        """What is perhaps a mistake."""
        found = []
        if self.operator not in OPERATORS:
            found.append(f"the operator {self.operator} is not known here{_hint(self.operator, OPERATORS)}")
        known = list(type(self).model_fields)
        found += [
            f"the field {name} is not known here{_hint(name, known)}" for name in self.model_extra or ()
        ]
        return found


def _hint(given: str, known: Any) -> str:
    close = did_you_mean(given, known)
    return f": did you mean {close}?" if close else ""


def _is_json(value: Any, deeper: int) -> bool:
    if isinstance(value, dict):
        return deeper > 0 and all(
            isinstance(name, str) and _is_json(one, deeper - 1) for name, one in value.items()
        )
    if isinstance(value, list):
        return deeper > 0 and all(_is_json(one, deeper - 1) for one in value)
    if isinstance(value, float):
        return abs(value) < float("inf")
    return value is None or isinstance(value, str | bool | int)


TriggerTopic = Annotated[str, StringConstraints(pattern=r"^v2\.[\x21-\x7e]{1,250}$")]


class TriggerTable(ModelTable):
    topic_name: TriggerTopic
    workflow_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    data_format: DataFormat = "TopLevelPrimitives"
    match_criteria: Annotated[list[Criterion], Field(max_length=MAX_CRITERIA), BeforeValidator(from_json)] = (
        Field(default=[])
    )
    event_ttl_seconds: Annotated[int, Field(ge=10, le=2**31 - 1)] | None = None
    delay_by_seconds: Annotated[int, Field(ge=60, le=900)] | None = None
    description: Annotated[str, StringConstraints(max_length=512)] = ""
    enabled: bool = True

    @model_validator(mode="after")
    def _check_times(self) -> "TriggerTable":
        if self.event_ttl_seconds is not None and self.delay_by_seconds is not None:
            raise ValueError("either event_ttl_seconds or delay_by_seconds, not both")
        return self

    def warn(self, name: str) -> None:
        """Say what is perhaps a mistake; the platform knows."""
        for at, one in enumerate(self.match_criteria):
            for warning in one.warnings():
                logger.warning("trigger %s: match_criteria.%d: %s", cut(name, 80), at, cut(warning))
