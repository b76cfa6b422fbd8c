"""What ``ingestd routes test`` does: which sinks an event reaches, and why."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ingestd.config import Settings, load
from ingestd.config.settings import sinks_that_send
from ingestd.core.errors import UserError
from ingestd.processing.routes import Routes
from ingestd.processing.routes import compile as compile_routes

if TYPE_CHECKING:
    from ingestd.processing.transforms.program import Program


def explain(text: bytes, config_file: str | None) -> tuple[bool, Iterator[dict[str, Any]]]:
    """(whether sinks are configured; for every event ``event`` (its number), ``reaches`` and ``sinks``, of a
    sink with transforms also what it ``gets``).

    ``text``: one JSON object, an array of them, or one on each line. Raises UserError.
    """
    settings = load(config_file, {})
    patterns = {name: sink.when for name, sink in settings.sinks.items()}
    compiled = compile_routes(patterns or {"ingest_api": {}})
    return bool(patterns), _explained(compiled, _programs(settings), _split(text))


def _programs(settings: Settings) -> "Mapping[str, Program]":
    if not (settings.transforms or any(one.transforms for one in sinks_that_send(settings).values())):
        return {}
    from ingestd.app.transforms import programs  # only for those who have some

    return programs(settings)


def _explained(
    compiled: Routes, programs: "Mapping[str, Program]", events: list[bytes]
) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(events, 1):
        found = compiled.explain(event)
        reached = [one.sink for one in found if one.matches]
        sinks = [one._asdict() for one in found]
        for one in sinks:
            if one["matches"] and (program := programs.get(one["sink"])):
                one["gets"] = _gets(program, event)
        yield {"event": number, "reaches": reached, "sinks": sinks}


def _gets(program: "Program", event: bytes) -> dict[str, Any]:
    """``event``: as text; or ``instead``: dropped or failed, and ``why``."""
    from ingestd.app.transforms import got_by

    got = got_by(program, event)
    return {"instead": got.instead, "why": got.why} if got.instead else {"event": got.event.decode()}


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
