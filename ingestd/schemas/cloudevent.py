"""CloudEvents 1.0 in the JSON event format, one event at a time (structured mode).

``CloudEvent`` of ``cloudevent_model.py`` is the definition and explains refusals; ``keys`` accepts the plain
ones first. Rules: CloudEvents specification 1.0.2 and, where it is stricter (names and duplicates of
attributes), the text for 1.0.3; JSON event format 1.0.2. Loaded by ``load``.
"""

from collections.abc import Sequence

from ingestd.schemas.attributes import PlainEvents
from ingestd.schemas.grammar import DEEP_BYTES, drop_undecodable, is_plain
from ingestd.schemas.schema import Refusal


class CloudEventSchema:
    """See ``Schema``. Key text: ``source NUL id``."""

    name = "cloudevent"
    default_key = ("source", "id")

    def __init__(self) -> None:
        self._plain = PlainEvents()

    def keys(self, events: Sequence[bytes]) -> list[str | None]:
        read = self._plain.read_key
        keys: list[str | None] = []
        for event in events:
            try:
                keys.append(read(event) if len(event) <= DEEP_BYTES or is_plain(event) else None)
            except (ValueError, RecursionError):
                keys.append(None)
        drop_undecodable(events, keys)
        return keys

    def explain(self, event: bytes) -> Refusal | None:
        from ingestd.schemas import cloudevent_model  # pydantic, which valid events never need

        return cloudevent_model.explain(event)
