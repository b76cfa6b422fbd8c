"""What settings are made of: sections, durations, sizes, paths, and secrets.

Each component has its settings in a section of its own; ``config/`` puts the sections together. A setting's
type says whether it holds a secret: a test asks for that.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr, WithJsonSchema

from ingestd.core import json_path, json_text, redaction, units
from ingestd.core.redaction import MASK


class Section(BaseModel):
    """A table of the configuration. Unknown keys are refused, and it cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, defer_build=True)


Seconds = Annotated[
    float,
    BeforeValidator(units.seconds),
    WithJsonSchema(
        {"type": ["number", "string"], "minimum": 0, "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)?\s*$"}
    ),
]
"""A duration: a number, or text as ``5s``."""
Size = Annotated[
    int,
    BeforeValidator(units.size),
    WithJsonSchema(
        {
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": r"^\s*\d+(\.\d+)?\s*([bB]|[kKmMgG][iI]?[bB])?\s*$",
        }
    ),
]
"""Bytes: a number, or text as ``16MiB``."""


def as_list(value: Any) -> Any:
    """Environment variables hold text: ``a,b``."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _object(value: Any) -> Any:
    """An object may also be given as JSON text."""
    if isinstance(value, str):
        return json_text.read(value) if value.strip() else {}
    return value


def _json_path(text: str) -> str:
    json_path.parse(text)
    return text


def as_object(kind: Any) -> BeforeValidator:
    """Reads JSON text, too, where an object of this type is wanted."""
    return BeforeValidator(_object, json_schema_input_type=kind | str)


AS_OBJECT = as_object(dict[str, Any])
JsonPath = Annotated[str, AfterValidator(_json_path)]
"""One path, in any notation of ``core/json_path.py``."""

_WHAT = f"it holds the mask that `config show` prints ({MASK}): set the real one"


@dataclass(frozen=True, slots=True)
class SecretSetting:
    """``what``: url (user-info and query are secrets), secret_url (all of it is), file (of a secret)."""

    what: str


def _no_mask(secret: SecretStr) -> SecretStr:
    if redaction.is_masked(secret.get_secret_value()):
        raise ValueError(_WHAT)
    return secret


def _no_masked_url(url: str) -> str:
    if redaction.is_masked(url):
        raise ValueError(_WHAT)
    return url


Secret = Annotated[SecretStr, AfterValidator(_no_mask)]
Url = Annotated[str, AfterValidator(_no_masked_url), SecretSetting("url")]
SecretUrl = Annotated[str, AfterValidator(_no_masked_url), SecretSetting("secret_url")]
SecretFile = Annotated[str, SecretSetting("file")]
"""Its path is no secret. Who reads it tells ``core.redaction`` what it holds."""
NOTHING = SecretStr("")
