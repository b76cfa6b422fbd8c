"""Where one event is, and what became of it: by its key, or the id of a request.

From the trail, the window, the spool, the dead letters and the audit file; read in a thread.
"""

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestd.app import audit_lines
from ingestd.app.letters.shape import as_dict
from ingestd.core.redaction import redact_tree
from ingestd.core.units import counted
from ingestd.store.connection import StoreFailed, read_only_uri, text_of
from ingestd.store.dead_letters import COLUMNS, StoredLetter
from ingestd.store.letter_reader import source_name
from ingestd.store.trail import Step, owner_at, steps_of, steps_of_batch

if TYPE_CHECKING:
    from ingestd.app.service_parts import Service
    from ingestd.processing.validate import Validator

MAX_ASKED_CHARS = 1_000_000
MAX_LETTERS, MAX_ATTEMPTS = 50, 200
_WRITTEN_S = 1.0
_OUTCOMES = {"DEAD_LETTERED", "BATCH_DELIVERED", "BATCH_ACCEPTED"}
"""Lines of the audit file that tell what became of some events of a request."""

NOT_KNOWN = "No event with this key, and no request with this id, is known: it never came, or too long ago."

Fields = dict[str, Any]


async def where(service: "Service", asked: str) -> Fields:
    """``asked``: a key, its parts with commas between them; the event itself; or the id of a request.

    ``state``: new, pending or known to the window; ``steps``: what became of it; ``waiting``: the sinks that
    have yet to get it; ``letters``; ``attempts``: lines of the audit file about its requests. Raises Busy."""
    pipeline = service.pipeline
    window, asked = pipeline.window, asked[:MAX_ASKED_CHARS]
    digests = [window.digest(key) for key in keys_of(pipeline.validator, asked)]
    pipeline.audit.flush()
    with suppress(StoreFailed, TimeoutError):  # what has just happened is to be seen, too
        async with service.clock.timeout(_WRITTEN_S):  # on a full disk it is never written
            await pipeline.journal.commit()
    found, lines = await service.looks.take(
        partial(_look, pipeline.database.path, pipeline.audit.path, digests, asked)
    )
    found["state"] = next(filter("new".__ne__, map(window.state_of_digest, digests)), "new")
    found["waiting"] = _waiting(service, found.pop("chunks"))
    found["attempts"] = lines
    words = words_of(found)
    if words == NOT_KNOWN:
        words += key_hint(pipeline.validator, asked)
    shown: Fields = redact_tree({"asked": asked, "words": words, **found})
    return shown


def _look(path: Path, audit: Path, digests: Sequence[bytes], asked: str) -> tuple[Fields, list[Fields]]:
    """What is in the state file, and what the audit file says of it."""
    found = read_steps(path, digests, asked)
    batches = {one["batch"] for one in (*found["steps"], *found["letters"])} - {None}
    lines = attempts(audit, batches)
    return found, lines if asked in batches else list(of_event(lines, found))


def keys_of(validator: "Validator | None", asked: str) -> set[str]:
    """All that may be meant. Keys of several parts have a NUL between them. ``validator``: for the event."""
    if validator and asked.startswith("{"):
        return {key for key in validator.check([asked.encode()], again=True).keys if key}
    return {asked, "\0".join(part.strip() for part in asked.split(","))}


def words_of(found: Fields) -> str:
    """The answer in one sentence."""
    steps, letters, waiting = found["steps"], found["letters"], found["waiting"]
    waits = [letter for letter in letters if letter["state"] != "delivered"]
    if waits:
        sinks = ", ".join(sorted({letter["sink"] or "no sink" for letter in waits}))
        return f"It is a dead letter ({sinks}): {waits[0]['reason']}."
    if waiting:
        return f"It was accepted, and waits for {', '.join(one['sink'] for one in waiting)}."
    ends = {step["sink"]: step["what"] for step in steps if step["sink"]}
    if accepted_by := sorted(sink for sink, what in ends.items() if what == "taken"):
        return f"{', '.join(accepted_by)} has taken it, and has yet to say what became of it."
    if ends:
        left_out = sorted(sink for sink, what in ends.items() if what == "dropped")
        if delivered_to := sorted(ends.keys() - left_out):
            return f"It is delivered: {', '.join(delivered_to)}."
        return f"A transform has dropped it: {', '.join(left_out)}."
    if steps or found["state"] == "known":
        return "It was accepted; what became of it is not known any more, or no sink wants it."
    if found["state"] == "pending":
        return "It is being accepted at this moment."
    return NOT_KNOWN


def key_hint(validator: "Validator", asked: str) -> str:
    """What a key is, for somebody who asked for one with fewer or more parts; else empty."""
    parts = validator.key_parts
    if not parts or asked.startswith("{") or asked.count(",") + 1 == len(parts):
        return ""
    return f" The key of an event here has {counted(len(parts), 'part')}: {','.join(parts)}."


def read_steps(path: Path, digests: Sequence[bytes], asked: str) -> Fields:
    steps, letters, chunks = list[Fields](), list[Fields](), set[int]()
    with closing(sqlite3.connect(read_only_uri(path), uri=True)) as connection:
        connection.text_factory = text_of
        for digest in digests:
            steps += [_step(step, place) for step, place in steps_of(connection, digest)]
            rows = connection.execute("SELECT id FROM spool WHERE instr(digests, ?) > 0 LIMIT 10", (digest,))
            chunks.update(row[0] for row in rows)
        if not steps:
            steps = [{**_step(one, -1), "events": count} for one, count in steps_of_batch(connection, asked)]
        query = f"SELECT {COLUMNS} FROM letters WHERE batch = ? OR digest IN ({_marks(digests)}) LIMIT ?"  # noqa: S608
        for row in connection.execute(query, (asked, *digests, MAX_LETTERS)):
            letter = StoredLetter(*row)
            letters.append(as_dict(letter, source_name(connection, letter.source)))
    return {"steps": steps, "letters": letters, "chunks": sorted(chunks)}


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _step(step: Step, place: int) -> Fields:
    fields = {"at": step.at, "what": step.what, "sink": step.sink or None, "batch": step.batch or None}
    if step.what == "accepted":
        return {**fields, "producer": owner_at(step.info, place) or None}
    if step.what == "dead_lettered":
        return {**fields, "why": step.info}
    return {**fields, "attempts": int(step.info)}


def _waiting(service: "Service", chunks: list[int]) -> list[Fields]:
    """By sink: whether a chunk of the spool with the event was read, and why it does not go on."""
    cursors, found = service.ingest.spool.cursors, []
    for runner in service.pipeline.runners:
        cursor, circuit = cursors[runner.name], runner.lane.circuit
        for number in chunks:
            if number >= cursor.unread or number in cursor.open:
                place = "in the spool" if number >= cursor.unread else "on its way"
                why = circuit.why or None
                found.append({"sink": runner.name, "place": place, "circuit": str(circuit.state), "why": why})
    return found


def of_event(lines: Sequence[Fields], found: Fields) -> Iterator[Fields]:
    """Without what became of others of the same requests. A line of dead letters is of several and tells the
    words of one: here it has this event's."""
    why = {(step["sink"], step["batch"]): step.get("why") for step in found["steps"] if step["sink"]}
    for letter in found["letters"]:
        why[letter["sink"], letter["batch"]] = f"{letter['reason']}: {letter['detail']}"
    for line in lines:
        place = line.get("sink"), line.get("request_id")
        if line.get("event") not in _OUTCOMES or place not in why:
            yield line
        elif (line["event"] == "DEAD_LETTERED") != (why[place] is None):
            yield {**line, "count": 1, "error": why[place]} if why[place] else line


def attempts(path: Path, batches: set[str]) -> list[Fields]:
    """What the audit file says of these requests, oldest first."""
    wanted = [batch.encode() for batch in batches]
    if not wanted or not path.exists():
        return []
    lines = (line for line in audit_lines.all_lines(path) if any(one in line.data for one in wanted))
    entries = deque((entry for line in lines if (entry := audit_lines.decode(line))), maxlen=MAX_ATTEMPTS)
    return [
        {name: value for name, value in entry.items() if name != "chain" and value is not None}
        for entry in entries
    ]
