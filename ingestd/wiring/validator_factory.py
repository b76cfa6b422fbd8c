"""What a valid event is, from the settings."""

from collections.abc import Callable

from ingestd.config import Settings
from ingestd.processing.validate import Validator
from ingestd.schemas.grammar import EventLimits
from ingestd.schemas.key_paths import KeyWatch, key_of
from ingestd.schemas.load import load as load_schema

Warn = Callable[[str], None]


def make_validator(settings: Settings, *, warn: Warn = lambda text: None) -> Validator:
    """Raises UserError for a schema that cannot be loaded or key paths that make no sense; ``warn`` is told
    of those that its events probably lack."""
    wanted = settings.schema_
    limits = EventLimits(wanted.max_depth, wanted.max_values)
    schema = load_schema(wanted.name, limits, format_assertion=wanted.format_assertion)
    if not wanted.dedup_key:
        return Validator(schema)
    setting = "schema.dedup_key"
    keys = key_of(setting, wanted.dedup_key, schema.name, warn=warn)
    return Validator(schema, keys, KeyWatch(setting, wanted.dedup_key))
