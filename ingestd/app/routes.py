"""What ``ingestd routes test`` does: which sinks an event reaches, and why."""

from collections.abc import Iterator
from typing import Any

import msgspec

from ingestd.config import load
from ingestd.core.errors import UserError
from ingestd.processing.routes import Routes
from ingestd.processing.routes import compile as compile_routes


def explain(text: bytes, config_file: str | None) -> tuple[bool, Iterator[dict[str, Any]]]:
    """(whether sinks are configured; for every event ``event`` (its number), ``reaches`` and ``sinks``).

    ``text``: one JSON object, an array of them, or one on each line. Raises UserError.
    """
    patterns = {name: sink.when for name, sink in load(config_file, {}).sinks.items()}
    compiled = compile_routes(patterns or {"ingest_api": {}})
    return bool(patterns), _explained(compiled, _split(text))


def _explained(compiled: Routes, events: list[bytes]) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(events, 1):
        found = compiled.explain(event)
        reached = [one.sink for one in found if one.matches]
        yield {"event": number, "reaches": reached, "sinks": [one._asdict() for one in found]}


def _split(text: bytes) -> list[bytes]:
    """The events: one JSON object, an array of them, or one on each line. Raises UserError."""
    try:
        whole = bytes(msgspec.json.decode(text, type=msgspec.Raw)).strip()
        events = msgspec.json.decode(whole, type=list[msgspec.Raw]) if whole[:1] == b"[" else [whole]
    except (ValueError, RecursionError):
        events = text.splitlines()
    numbered = [(number, bytes(event).strip()) for number, event in enumerate(events, 1)]
    numbered = [(number, event) for number, event in numbered if event]
    if not numbered:
        raise UserError("there is no event: give a JSON object, or one on each line")
    for number, event in numbered:
        try:
            msgspec.json.decode(event, type=dict[str, msgspec.Raw])
        except (ValueError, RecursionError) as error:
            raise UserError(f"event {number} is not a JSON object: {error}") from None
    return [event for _, event in numbered]
