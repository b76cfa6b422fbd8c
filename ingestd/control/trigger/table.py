"""What may stand in a table ``[trigger.NAME]``. Called by ``trigger.py``. Source of the rules: Genesys Cloud
Platform SDK, ``ProcessAutomationApi``, and the help page "Overview of triggers".
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ingestd.control.engine.model_table import ModelTable

MAX_CRITERIA = 50
MAX_VALUES = 100

Format = Literal["Json", "TopLevelPrimitives"]
Operator = Literal[
    "Equal",
    "NotEqual",
    "In",
    "NotIn",
    "Contains",
    "All",
    "Exists",
    "Size",
    "GreaterThan",
    "GreaterThanOrEqual",
    "LessThan",
    "LessThanOrEqual",
]
Number = Annotated[float, Field(allow_inf_nan=False)]
Scalar = str | bool | int | Number
_MANY = frozenset({"In", "NotIn", "All"})
_COMPARING = frozenset({"GreaterThan", "GreaterThanOrEqual", "LessThan", "LessThanOrEqual"})


class Criterion(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    json_path: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=512)]
    operator: Operator
    value: Scalar | None = None
    values: Annotated[list[Scalar], Field(min_length=1, max_length=MAX_VALUES)] | None = None

    @model_validator(mode="after")
    def _check_value(self) -> "Criterion":
        given = ("values", "value") if self.operator in _MANY else ("value", "values")
        if getattr(self, given[0]) is None or getattr(self, given[1]) is not None:
            raise ValueError(f"the operator {self.operator} takes {given[0]}, and no {given[1]}")
        number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if self.operator == "Exists" and not isinstance(self.value, bool):
            raise ValueError("the operator Exists takes a value of true or false")
        if self.operator == "Size" and not (isinstance(self.value, int) and number and self.value >= 0):
            raise ValueError("the operator Size takes a whole number, 0 or more")
        if self.operator in _COMPARING and not (number or isinstance(self.value, str)):
            raise ValueError(f"the operator {self.operator} takes a number or a text")
        return self


Topic = Annotated[str, StringConstraints(pattern=r"^v2\.[\x21-\x7e]{1,250}$")]


class TriggerTable(ModelTable):
    topic_name: Topic
    workflow_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    data_format: Format = "TopLevelPrimitives"
    match_criteria: Annotated[list[Criterion], Field(max_length=MAX_CRITERIA)] = Field(default=[])
    event_ttl_seconds: Annotated[int, Field(ge=10, le=2**31 - 1)] | None = None
    delay_by_seconds: Annotated[int, Field(ge=60, le=900)] | None = None
    description: Annotated[str, StringConstraints(max_length=512)] = ""
    enabled: bool = True

    @model_validator(mode="after")
    def _check_times(self) -> "TriggerTable":
        if self.event_ttl_seconds is not None and self.delay_by_seconds is not None:
            raise ValueError("either event_ttl_seconds or delay_by_seconds, not both")
        return self
