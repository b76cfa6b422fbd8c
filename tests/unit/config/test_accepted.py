"""The quick pass over settings takes nothing that the pydantic model refuses, and makes the same of it."""

from functools import cache
from typing import Annotated, Any

import pydantic
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.settings import Settings
from ingestd.core.section import Section, reader_of
from ingestd.core.section_model import _raised, _type
from ingestd.core.setting_types import SettingField
from ingestd.sinks.registry import SINK_TYPES

TEXTS = st.one_of(
    st.sampled_from(["", "5s", "1MiB", "0", "-1", "1_0", "٣", " 7 ", "true", "1.5", "nan", "0600", "0600\n"]),
    st.sampled_from(
        ["a,b", '{"200": "taken"}', "$.a", "a..b", "nats://h:1", "tls://u@h", "127.0.0.1:80", "all"]
    ),
    st.sampled_from(["***", "http://u:***@h", "json", "fixed", "accepted", "200", "9223372036854775808"]),
    st.text(max_size=4),
)
SCALARS = st.one_of(
    TEXTS, st.integers(), st.floats(), st.booleans(), st.none(), st.sampled_from([1e9, 0, 8, 100])
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=2),
    st.dictionaries(TEXTS, st.one_of(SCALARS, st.dictionaries(TEXTS, SCALARS, max_size=1)), max_size=2),
)


def fields() -> dict[str, SettingField]:
    found: dict[str, SettingField] = {}
    waiting: list[type[Section]] = [Settings, *SINK_TYPES.values()]
    for section in waiting:
        for name, one in section.model_fields.items():
            kind = one.annotation
            if isinstance(kind, type) and issubclass(kind, Section):
                waiting += [kind] if kind not in waiting else []
            else:
                found[f"{section.__name__}.{name}"] = one
    return found


@cache
def models() -> dict[str, tuple[SettingField, pydantic.TypeAdapter[Any]]]:
    """One of each kind: what reads a setting is made of its type, what is beside that, and its limits."""
    kinds = {repr((one.annotation, one.metadata, one.limits)): name for name, one in fields().items()}
    return {
        name: (
            one,
            pydantic.TypeAdapter(
                Annotated[_type(one.annotation, one.metadata), pydantic.Field(**one.limits)]
            ),
        )
        for name in kinds.values()
        for one in [fields()[name]]
    }


@given(st.lists(VALUES, min_size=8, max_size=8))
def test_what_is_accepted_first_is_what_the_model_makes_of_it(values: list[Any]) -> None:
    for value in values:
        for name, (one, model) in models().items():
            try:
                found = reader_of(one)(value)
            except ValueError:
                continue
            assert repr(_raised(model.validate_python(value))) == repr(found), (name, value)


def test_what_people_write_is_accepted_without_the_model() -> None:
    """Of each type that settings have."""
    written = {
        "ApiConfig.url": "http://h",
        "ApiConfig.no_auth": "true",
        "ApiConfig.client_secret": "s",
        "BatchConfig.max_bytes": "1MiB",
        "BatchConfig.max_events": "7",
        "WindowConfig.max_age": "5m",
        "LogConfig.format": "json",
        "IngestConfig.listen": "127.0.0.1:80",
        "IngestConfig.producers": {"web": {"token_file": "/f"}},
        "IngestConfig.webhook_origins": "a, b",
        "MetricsConfig.port": 7,
        "DeliveryConfig.retry_ratio": 1,
        "Settings.sinks": {
            "crm": {
                "type": "webhook",
                "url": "http://h",
                "headers": {"X": "1"},
                "on_status": {"409": "retry"},
            }
        },
    }
    found = fields()
    for name, value in written.items():
        reader_of(found[name])(value)
